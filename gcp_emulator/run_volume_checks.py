"""What Cloud Run accepts as volumes and their mounts. Pure.

https://cloud.google.com/run/docs/configuring/services/cloud-storage-volume-mounts, …/nfs-volume-mounts, …/secrets
"""

from __future__ import annotations

from google.cloud import run_v2

from gcp_emulator.run_checks import DNS_LABEL, Violation, Violations, memory_of

_GEN1 = run_v2.ExecutionEnvironment.EXECUTION_ENVIRONMENT_GEN1


def volume_violations(template: run_v2.RevisionTemplate) -> Violations:
    at = "service.template.volumes"
    names = [volume.name for volume in template.volumes]
    if twice := sorted({name for name in names if name and names.count(name) > 1}):
        yield Violation(at, f"volume names are given more than once: {', '.join(twice)}.")
    for index, volume in enumerate(template.volumes):
        yield from _volume(f"{at}[{index}]", volume, template)


def _volume(at: str, volume: run_v2.Volume, template: run_v2.RevisionTemplate) -> Violations:
    kind = run_v2.Volume.pb(volume).WhichOneof("volume_type")
    if not volume.name:
        yield Violation(f"{at}.name", "required field not present.")
    elif len(volume.name) > 63 or not DNS_LABEL.fullmatch(volume.name):
        yield Violation(f"{at}.name", f"'{volume.name}' must be a DNS label.")
    if kind is None:
        yield Violation(at, "exactly one volume type must be specified.")
    elif kind == "secret":
        yield from _secret(f"{at}.secret", volume.secret)
    elif kind == "gcs" and not volume.gcs.bucket:
        yield Violation(f"{at}.gcs.bucket", "required field not present.")
    elif kind == "nfs":
        yield from _nfs(f"{at}.nfs", volume.nfs)
    elif kind == "empty_dir":
        limit = volume.empty_dir.size_limit
        if limit and memory_of(limit) is None:
            yield Violation(f"{at}.empty_dir.size_limit", f"'{limit}' is not a size.")
    if kind in ("gcs", "nfs") and template.execution_environment == _GEN1:
        yield Violation("service.template.execution_environment", f"volumes of type {kind} require gen2.")


def _secret(at: str, secret: run_v2.SecretVolumeSource) -> Violations:
    if not secret.secret:
        yield Violation(f"{at}.secret", "required field not present.")
    if not 0 <= secret.default_mode <= 0o777:
        yield Violation(f"{at}.default_mode", "must be between 0000 and 0777 (octal).")
    for index, item in enumerate(secret.items):
        if not item.path or item.path.startswith("/") or ".." in item.path.split("/"):
            yield Violation(f"{at}.items[{index}].path", "must be a relative path within the volume.")
        if not item.version:
            yield Violation(f"{at}.items[{index}].version", "required field not present.")


def _nfs(at: str, nfs: run_v2.NFSVolumeSource) -> Violations:
    if not nfs.server:
        yield Violation(f"{at}.server", "required field not present.")
    if not nfs.path.startswith("/"):
        yield Violation(f"{at}.path", "must be an absolute path.")


def mount_violations(template: run_v2.RevisionTemplate) -> Violations:
    sql = {volume.name for volume in template.volumes if "cloud_sql_instance" in volume}
    known = {volume.name for volume in template.volumes}
    for place, container in enumerate(template.containers):
        at = f"service.template.containers[{place}].volume_mounts"
        paths = [mount.mount_path.rstrip("/") for mount in container.volume_mounts]
        if len(set(paths)) != len(paths):
            yield Violation(at, "mount paths must be unique.")
        for index, mount in enumerate(container.volume_mounts):
            if mount.name not in known:
                yield Violation(f"{at}[{index}].name", f"'{mount.name}' is not the name of a volume.")
            absolute = mount.mount_path.startswith("/") and ":" not in mount.mount_path
            if not absolute and not (mount.name in sql and mount.mount_path == ""):
                yield Violation(f"{at}[{index}].mount_path", "must be an absolute path and must not contain ':'.")
