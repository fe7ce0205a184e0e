"""From a revision to what is started: environment, secrets, volumes, probe."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from google.cloud import run_v2

from gcp_emulator.run_defaults import ingress_container
from gcp_emulator.run_exports import Exports
from gcp_emulator.run_names import Name, short
from gcp_emulator.runtime_protocol import CannotRun, Launch, Mount, ProbeKind, StartupProbe

LayOut = Callable[[str, Path], bool]


class SecretMissing(Exception):
    def __init__(self, secret: str, version: str) -> None:
        super().__init__(f"{secret}/{version}")
        self.secret, self.version = secret, version


class Secrets:
    """A folder that stands for Secret Manager: a file `SECRET/VERSION`, or `SECRET` for every version."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder

    def has(self, secret: str) -> bool:
        return self._folder is not None and not _leaves(secret) and (self._folder / secret).exists()

    def value(self, secret: str, version: str) -> str:
        """One line break at its end is the editor's. Raises SecretMissing."""
        name = short(secret)
        for path in (Path(name) / version, Path(name)):
            found = self._folder / path if self._folder and not _leaves(name, version) else None
            if found is not None and found.is_file():
                return found.read_text().removesuffix("\n")
        raise SecretMissing(name, version)


def _leaves(*parts: str) -> bool:
    return any(part in ("", ".", "..") or "/" in part for part in parts)


@dataclass(frozen=True, slots=True)
class Sources:
    """What volumes are made of.

    folder: where files of secrets and empty folders are made.
    buckets: lays a bucket's objects out in a folder; False where there is no such bucket.
    """

    secrets: Secrets
    folder: Path
    buckets: LayOut
    exports: Exports


def launch_of(revision: run_v2.Revision, sources: Sources) -> Launch:
    """How the revision's container is started.

    Raises:
        SecretMissing, CannotRun
    """
    container = ingress_container(list(revision.containers))
    name = Name.parse(revision.name)
    service, own = short(revision.service), short(revision.name)
    told = (("K_SERVICE", service), ("K_REVISION", own), ("K_CONFIGURATION", service))
    if name is None or len(revision.containers) > 1:
        raise CannotRun("gcp_emulator runs one container a revision; sidecars are not started")
    return Launch(
        revision=revision.name,
        image=container.image,
        port=container.ports[0].container_port,
        command=tuple(container.command),
        args=tuple(container.args),
        env=(*told, *((one.name, _value(one, sources.secrets)) for one in container.env)),
        working_dir=container.working_dir,
        mounts=_mounts(revision, container, sources, sources.folder / name.region / own),
    )


def _value(variable: run_v2.EnvVar, secrets: Secrets) -> str:
    if "value_source" not in variable:
        return str(variable.value)
    reference = variable.value_source.secret_key_ref
    return secrets.value(reference.secret, reference.version)


def _mounts(
    revision: run_v2.Revision, container: run_v2.Container, sources: Sources, folder: Path
) -> tuple[Mount, ...]:
    volumes = {volume.name: volume for volume in revision.volumes}
    mounts = []
    for mount in container.volume_mounts:
        source, read_only = _source(volumes[mount.name], sources, folder)
        mounts.append(Mount(mount.mount_path, source / mount.sub_path, read_only))
    return tuple(mounts)


def _source(volume: run_v2.Volume, sources: Sources, folder: Path) -> tuple[Path, bool]:
    own = folder / volume.name
    if "nfs" in volume:
        return _exported(volume.nfs, sources.exports), bool(volume.nfs.read_only)
    if "gcs" in volume:
        if not sources.buckets(volume.gcs.bucket, own):
            raise CannotRun(f"the bucket {volume.gcs.bucket} of volume {volume.name} does not exist")
        return own, bool(volume.gcs.read_only)
    if "secret" in volume:
        _write_secrets(volume.secret, sources.secrets, own)
        return own, True
    if "empty_dir" in volume:
        own.mkdir(parents=True, exist_ok=True)
        return own, False
    raise CannotRun(f"gcp_emulator mounts no volume of the kind that {volume.name} is")


def _exported(nfs: run_v2.NFSVolumeSource, exports: Exports) -> Path:
    found = exports.folder(nfs.server, nfs.path)
    if found is None:
        raise CannotRun(f"mounting NFS failed: {nfs.server}:{nfs.path} is not exported")
    return found


def _write_secrets(source: run_v2.SecretVolumeSource, secrets: Secrets, folder: Path) -> None:
    items = [(item.path, item.version) for item in source.items] or [(short(source.secret), "latest")]
    for path, version in items:
        value = secrets.value(source.secret, version)
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.unlink(missing_ok=True)
        with os.fdopen(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o400), "w") as file:
            file.write(value)


def probe_of(revision: run_v2.Revision) -> StartupProbe:
    probe = ingress_container(list(revision.containers)).startup_probe
    kind: ProbeKind = run_v2.Probe.pb(probe).WhichOneof("probe_type") or "tcp_socket"
    return StartupProbe(
        kind=kind,
        path=probe.http_get.path or "/",
        headers=tuple((header.name, header.value) for header in probe.http_get.http_headers),
        initial_delay=probe.initial_delay_seconds,
        period=probe.period_seconds,
        timeout=probe.timeout_seconds,
        threshold=probe.failure_threshold,
        default=kind == "tcp_socket" and (probe.period_seconds, probe.failure_threshold) == (240, 1),
    )
