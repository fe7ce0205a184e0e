"""Base images for tests: a real Debian with python, made once per machine, and tiny ones made in memory."""

from __future__ import annotations

import fcntl
import gzip
import hashlib
import io
import json
import platform as machine
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests import needs

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
PATH = "/usr/local/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin"
WITH_PYTHON = "python3,python3-pip,python3-venv,ca-certificates"
BARE = "ca-certificates"
_MERGED_USR = Path("/usr/share/mmdebstrap/hooks/merged-usr")
_SLIM = (
    # As Docker's official images are: merged /usr without the 50 MB of perl that would merge it later,
    *((f"--hook-dir={_MERGED_USR}",) if _MERGED_USR.is_dir() else ()),
    # and, as their `slim` kind, without manuals and translations. Half the size, copied again and again.
    *(f"--dpkgopt=path-exclude=/usr/share/{kind}/*" for kind in ("doc", "man", "locale")),
    "--dpkgopt=force-unsafe-io",
)

PYTHON_TREE: dict[str, str | bytes | tuple[str, int]] = {
    "usr/local/bin/python3.11": b"not really an interpreter",
    "usr/local/bin/python3": "-> python3.11",
    "usr/bin": ("folder", 0o755),
    "bin": "-> usr/bin",
    "tmp": ("folder", 0o1777),
}
"""What `tiny_base` holds unless told otherwise; see `layer_of`."""

Tree = Mapping[str, str | bytes | tuple[str, int]]


@pytest.fixture(scope="session")
def base_image(registry: str) -> str:
    """Reference of a Debian with python 3.11 in the test registry. Made once per machine, in one to two minutes."""
    return _in_registry(registry, "python", WITH_PYTHON)


@pytest.fixture(scope="session")
def bare_debian(registry: str) -> str:
    """The same without python, a third of the size: for engines, which copy a base again and again."""
    return _in_registry(registry, "debian", BARE)


def _in_registry(registry: str, name: str, packages: str) -> str:
    architecture = {"x86_64": "amd64", "aarch64": "arm64"}.get(machine.machine(), machine.machine())
    command = (needs.program("mmdebstrap"), "--variant=minbase", *_SLIM, f"--include={packages}", "bookworm")
    folder = _debian(command, architecture)
    reference = f"{registry}/base/{name}:bookworm"
    copy = [needs.program("skopeo"), "copy", "--insecure-policy", "--dest-tls-verify=false"]
    subprocess.run([*copy, f"oci:{folder}:it", f"docker://{reference}"], check=True, capture_output=True)
    return reference


def _debian(command: Sequence[str], architecture: str) -> Path:
    """The folder of an OCI layout, made at the first call on this machine."""
    needs.root_on_linux("mmdebstrap with real owners")
    key = hashlib.sha256(" ".join((*command[1:], architecture)).encode()).hexdigest()[:16]
    home = Path(tempfile.gettempdir()) / "cloud-deploy-test-base"
    home.mkdir(exist_ok=True)
    target = home / key
    with (home / f"{key}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not target.exists():
            growing = home / f"{key}.growing"
            shutil.rmtree(growing, ignore_errors=True)
            growing.mkdir()
            made = subprocess.run([*command, growing / "base.tar"], capture_output=True, check=False)
            if made.returncode:
                needs.missing(f"mmdebstrap cannot make a base: {made.stderr.decode()[-300:]}")
            tar = growing / "base.tar"
            _write_layout(growing, architecture, [gzip.compress(tar.read_bytes(), 1, mtime=0)])
            tar.unlink()
            growing.rename(target)
    return target


def _write_layout(folder: Path, architecture: str, layers: Sequence[bytes]) -> None:
    """https://github.com/opencontainers/image-spec/blob/main/image-layout.md"""
    manifest, blobs = image_of(layers, architecture)
    (folder / "blobs" / "sha256").mkdir(parents=True)
    for data in (*blobs, manifest):
        (folder / "blobs" / "sha256" / hashlib.sha256(data).hexdigest()).write_bytes(data)
    row = _described(manifest, MANIFEST) | {"annotations": {"org.opencontainers.image.ref.name": "it"}}
    (folder / "index.json").write_text(json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": [row]}))
    (folder / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')


def tiny_base(
    registry: str,
    name: str,
    trees: Sequence[Tree] = (PYTHON_TREE,),
    *,
    architectures: Sequence[str] = ("amd64",),
    config: Mapping[str, Any] | None = None,
) -> str:
    """Push an index with an image for each architecture; `registry/name:1`.

    Args:
        trees: one layer each, see `layer_of`.
        config: the part of the configuration that says how it runs; by default it has a PATH.
    """
    rows = []
    with httpx.Client(base_url=f"http://{registry}/v2/{name}/", timeout=20, trust_env=False) as http:
        for architecture in architectures:
            manifest, blobs = image_of([gzip.compress(layer_of(tree), mtime=0) for tree in trees], architecture, config)
            for blob in blobs:
                _push_blob(http, blob)
            digest = f"sha256:{hashlib.sha256(manifest).hexdigest()}"
            _push_manifest(http, digest, manifest, MANIFEST)
            rows.append(_described(manifest, MANIFEST) | {"platform": {"os": "linux", "architecture": architecture}})
        index = json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": rows}).encode()
        _push_manifest(http, "1", index, INDEX)
    return f"{registry}/{name}:1"


def image_of(
    layers: Sequence[bytes], architecture: str, config: Mapping[str, Any] | None = None
) -> tuple[bytes, list[bytes]]:
    """Manifest and blobs of an image over gzip layers."""
    about = json.dumps(
        {
            "os": "linux",
            "architecture": architecture,
            "config": config if config is not None else {"Env": [f"PATH={PATH}"], "Cmd": ["/bin/sh"]},
            "rootfs": {
                "type": "layers",
                "diff_ids": [f"sha256:{hashlib.sha256(gzip.decompress(layer)).hexdigest()}" for layer in layers],
            },
            "history": [{"created_by": f"layer {count}"} for count in range(len(layers))],
        }
    ).encode()
    manifest = json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": _described(about, CONFIG),
            "layers": [_described(layer, LAYER) for layer in layers],
        }
    ).encode()
    return manifest, [about, *layers]


def layer_of(tree: Tree) -> bytes:
    """A tar. Values: bytes (a program, 0755), "-> target" (symbolic link), "= path" (hard link), ("folder", mode)."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for path, value in tree.items():
            info = tarfile.TarInfo(path)
            if isinstance(value, tuple):
                info.type, info.mode = tarfile.DIRTYPE, value[1]
            elif isinstance(value, bytes):
                info.size, info.mode = len(value), 0o755
            else:
                sign, _, info.linkname = value.partition(" ")
                info.type = tarfile.SYMTYPE if sign == "->" else tarfile.LNKTYPE
            tar.addfile(info, io.BytesIO(value) if isinstance(value, bytes) else None)
    return buffer.getvalue()


def _push_blob(http: httpx.Client, data: bytes) -> None:
    where = http.post("blobs/uploads/").headers["location"]
    digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
    http.put(where, params={**httpx.URL(where).params, "digest": digest}, content=data).raise_for_status()


def _push_manifest(http: httpx.Client, reference: str, data: bytes, media_type: str) -> None:
    http.put(f"manifests/{reference}", content=data, headers={"Content-Type": media_type}).raise_for_status()


def _described(data: bytes, media_type: str) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": f"sha256:{hashlib.sha256(data).hexdigest()}", "size": len(data)}
