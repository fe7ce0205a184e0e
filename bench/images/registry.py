"""A real registry (the distribution project's, as Debian packages it) that begins with nothing but the base image."""

from __future__ import annotations

import gzip
import hashlib
import json
import platform
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

BASE = "python:3.11-slim"
_INCLUDE = "--include=python3,python3-pip,python3-venv,ca-certificates"
_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
_CONFIG = "application/vnd.docker.container.image.v1+json"
_LAYER = "application/vnd.docker.image.rootfs.diff.tar.gzip"
_PATH = "/usr/local/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True)
class Registry:
    """`address`: localhost:PORT, a name that docker and we take for loopback."""

    address: str
    folder: Path
    pid: int

    @property
    def base(self) -> str:
        return f"{self.address}/{BASE}"

    def stored(self) -> int:
        """Bytes of all its blobs; what they grow by has been sent to it."""
        blobs = self.folder / "docker" / "registry" / "v2" / "blobs"
        return sum(path.stat().st_size for path in blobs.rglob("data"))


@contextmanager
def serving(folder: Path, seed: Path | None = None) -> Iterator[Registry]:
    """With a copy of the blobs of `seed`; the folder is removed with it."""
    shutil.rmtree(folder, ignore_errors=True)
    if seed:
        shutil.copytree(seed, folder)
    folder.mkdir(parents=True, exist_ok=True)
    port = _free_port()
    config = folder / "config.yml"
    config.write_text(
        f"version: 0.1\nlog: {{level: error}}\nhttp: {{addr: 127.0.0.1:{port}}}\n"
        f"storage: {{filesystem: {{rootdirectory: {folder}}}, delete: {{enabled: true}}}}\n"
    )
    program = shutil.which("docker-registry") or "registry"
    process = subprocess.Popen([program, "serve", str(config)], stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    try:
        _wait(port)
        yield Registry(f"localhost:{port}", folder, process.pid)
    finally:
        process.terminate()
        process.wait()
        shutil.rmtree(folder, ignore_errors=True)


def make_base(folder: Path) -> None:
    """A Debian with python as the blobs of a registry that has it, in one to two minutes. Once: what is there stays."""
    if folder.exists():
        return
    growing = folder.with_name(f"{folder.name}.growing")
    tar = folder.with_name("base.tar")
    command = ["mmdebstrap", "--quiet", "--variant=minbase", _INCLUDE, "bookworm", str(tar)]
    subprocess.run(command, check=True)
    with serving(growing) as registry:
        _push(registry, tar.read_bytes())
        tar.unlink()
        shutil.copytree(growing, folder)


def _push(registry: Registry, tar: bytes) -> None:
    layer = gzip.compress(tar, 6, mtime=0)
    about = {
        "os": "linux",
        "architecture": {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine()),
        "config": {"Env": [f"PATH={_PATH}"], "Cmd": ["python3"]},
        "rootfs": {"type": "layers", "diff_ids": [_digest(tar)]},
        "history": [{"created_by": "mmdebstrap"}],
    }
    config = json.dumps(about).encode()
    manifest = {
        "schemaVersion": 2,
        "mediaType": _MANIFEST,
        "config": _described(config, _CONFIG),
        "layers": [_described(layer, _LAYER)],
    }
    name, _, tag = BASE.partition(":")
    with httpx.Client(base_url=f"http://{registry.address}/v2/{name}/", timeout=120, trust_env=False) as http:
        for blob in (config, layer):
            where = httpx.URL(http.post("blobs/uploads/").raise_for_status().headers["location"])
            http.put(where.copy_add_param("digest", _digest(blob)), content=blob).raise_for_status()
        headers = {"Content-Type": _MANIFEST}
        http.put(f"manifests/{tag}", content=json.dumps(manifest).encode(), headers=headers).raise_for_status()


def _described(data: bytes, media_type: str) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": _digest(data), "size": len(data)}


def _digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def _wait(port: int) -> None:
    for _ in range(200):
        with socket.socket() as sock:
            if sock.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise SystemExit("the registry does not listen")
