"""Bases as other tools write them: layers plain or in zstd, manifests in Docker's older words, an Alpine."""

from __future__ import annotations

import gzip
import hashlib
import json
import sys
from collections.abc import Callable, Mapping, Sequence

import httpx

from tests.base_image import CONFIG, INDEX, LAYER, MANIFEST, PATH, Tree, image_of, layer_of

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
_OCI, _DOCKER = "application/vnd.oci.image.layer.v1.tar", "application/vnd.docker.image.rootfs.diff.tar"
COMPRESSION: dict[str, Callable[[bytes], bytes]] = {
    LAYER: lambda tar: gzip.compress(tar, mtime=0),
    _OCI: bytes,
    # Two frames, as parallel compressors write them.
    f"{_OCI}+zstd": lambda tar: zstd.compress(tar[:600]) + zstd.compress(tar[600:]),
    f"{_DOCKER}.gzip": lambda tar: gzip.compress(tar, mtime=0),
    _DOCKER: bytes,
}
STATUS = """Package: libc6
Status: install ok installed
Architecture: amd64
Source: glibc
Version: 2.36-9+deb12u10
Description: GNU C Library
 Package: no field, as it goes on

Package: gone
Status: deinstall ok config-files
Architecture: all
Version: 1

Package: tzdata
Status: install ok installed
Architecture: all
Version: 2025b-0+deb12u1
"""
APK = "C:Q1x=\nP:musl\nV:1.2.4_git20230717-r4\nA:x86_64\no:musl\n\nP:libcrypto3\nV:3.1.4-r5\nA:x86_64\no:openssl\n"
_OLD = "Metadata-Version: 2.1\nName: Six\nVersion: 1.16.0\n\n"


def glibc(version: str) -> bytes:
    return b"\x7fELF\0GNU C Library (Debian GLIBC 2.36-9) stable release version " + version.encode() + b".\nCopyright"


DEBIAN: Tree = {
    "usr/bin/python3.11": b"",
    "lib": "-> usr/lib",
    "usr/lib/x86_64-linux-gnu/libc.so.6": glibc("2.36"),
    "etc/os-release": "-> ../usr/lib/os-release",
    "usr/lib/os-release": b'PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\nID=debian\nVERSION_ID="12"\n',
    "var/lib/dpkg/status": STATUS.encode(),
    "usr/lib/python3/dist-packages/six-1.16.0.egg-info": _OLD.encode(),
    "usr/lib/python3/dist-packages/pip-23.0.dist-info/METADATA": b"Name: pip\nVersion: 23.0\n\nlong words",
}
ALPINE: Tree = {
    "usr/local/bin/python3.11": b"",
    "lib/ld-musl-x86_64.so.1": b"\x7fELF\x001.2.4_git20230717\0",
    "etc/os-release": b'NAME="Alpine Linux"\nID=alpine\nVERSION_ID=3.18.4\n',
    "lib/apk/db/installed": APK.encode(),
}
DISTROLESS: Tree = {
    "usr/bin/python3.11": b"",
    "etc/os-release": b"ID=debian\nVERSION_ID=12\n",
    "var/lib/dpkg/status.d/tzdata": b"Package: tzdata\nVersion: 2024a\nArchitecture: all\n",
    "var/lib/dpkg/status.d/tzdata.md5sums": b"Package: none\nVersion: 0\n",
}


def push_base(
    registry: str, name: str, layers: Sequence[tuple[Tree, str]], *, docker: bool = False, kept: int | None = None
) -> str:
    """`registry/name:1`, of (content, media type) for each layer; a type that is not in COMPRESSION goes as gzip.

    docker: the manifest is in Docker's own words. kept: bytes that are left of each layer.
    """
    tars = [layer_of(tree) for tree, _ in layers]
    blobs = [COMPRESSION.get(kind, COMPRESSION[LAYER])(tar)[:kept] for tar, (_, kind) in zip(tars, layers, strict=True)]
    about = {
        "os": "linux",
        "architecture": "amd64",
        "config": {"Env": [f"PATH={PATH}"]},
        "rootfs": {"type": "layers", "diff_ids": [_digest(tar) for tar in tars]},
    }
    config = json.dumps(about).encode()
    kinds = [kind for _, kind in layers]
    manifest = {
        "schemaVersion": 2,
        "mediaType": DOCKER_MANIFEST if docker else MANIFEST,
        "config": _row(config, DOCKER_CONFIG if docker else CONFIG),
        "layers": [_row(blob, kind) for blob, kind in zip(blobs, kinds, strict=True)],
    }
    with httpx.Client(base_url=f"http://{registry}/v2/{name}/", timeout=20, trust_env=False) as http:
        for blob in (config, *blobs):
            _push(http, blob)
        headers = {"Content-Type": str(manifest["mediaType"])}
        http.put("manifests/1", content=json.dumps(manifest), headers=headers).raise_for_status()
    return f"{registry}/{name}:1"


def push_index(registry: str, name: str, images: Mapping[str, Sequence[bytes]]) -> str:
    """`registry/name:1`, an index with the image of each architecture over its gzip layers."""
    rows = []
    with httpx.Client(base_url=f"http://{registry}/v2/{name}/", timeout=60, trust_env=False) as http:
        for architecture, layers in images.items():
            manifest, blobs = image_of(layers, architecture)
            for blob in blobs:
                _push(http, blob)
            headers = {"Content-Type": MANIFEST}
            http.put(f"manifests/{_digest(manifest)}", content=manifest, headers=headers).raise_for_status()
            rows.append(_row(manifest, MANIFEST) | {"platform": {"os": "linux", "architecture": architecture}})
        index = json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": rows})
        http.put("manifests/1", content=index, headers={"Content-Type": INDEX}).raise_for_status()
    return f"{registry}/{name}:1"


def _push(http: httpx.Client, blob: bytes) -> None:
    where = http.post("blobs/uploads/").headers["location"]
    http.put(where, params={**httpx.URL(where).params, "digest": _digest(blob)}, content=blob).raise_for_status()


def _row(data: bytes, media_type: str) -> dict[str, object]:
    return {"mediaType": media_type, "digest": _digest(data), "size": len(data)}


def _digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"
