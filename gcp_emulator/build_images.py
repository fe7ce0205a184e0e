"""Images between a build's engine and Artifact Registry, as archives of `docker save`.

https://github.com/opencontainers/distribution-spec/blob/main/spec.md,
https://github.com/moby/docker-image-spec/blob/main/v1.2.md. A layer that came from the registry goes back as the same
bytes, as docker itself does it.
"""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import json
import shutil
import tarfile
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import IO

import httpx

from gcp_emulator.runtime_image import Reference

_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
_CONFIG = "application/vnd.docker.container.image.v1+json"
_LAYER = "application/vnd.docker.image.rootfs.diff.tar.gzip"
_READ = (_MANIFEST, "application/vnd.oci.image.manifest.v1+json")
_CHUNK = 1 << 20


class RegistryRefused(Exception):
    """status: of HTTP. The words are the registry's."""

    def __init__(self, status: int, words: str) -> None:
        super().__init__(words)
        self.status = status


class RegistryImages:
    """client: speaks to the registry of a host with the build's credentials."""

    def __init__(self, client: Callable[[str], httpx.AsyncClient], folder: Path) -> None:
        self._client = client
        self._folder = folder
        self._blobs: dict[str, Path] = {}  # by the digest of the tar inside

    async def pull(self, image: str, tag: str, archive: Path) -> None:
        """Raises RegistryRefused, httpx.TransportError."""
        at = Reference.parse(image)
        async with self._client(at.host) as client:
            answer = await client.get(f"/v2/{at.path}/manifests/{at.version}", headers={"Accept": ", ".join(_READ)})
            manifest = json.loads(_accepted(answer, 200).content)
            if "layers" not in manifest:
                raise RegistryRefused(415, f"{image} is no image of one platform, which gcp_emulator would need")
            config = (await self._blob(client, at, manifest["config"]["digest"])).read_bytes()
            layers = [await self._blob(client, at, row["digest"]) for row in manifest["layers"]]
        self._blobs.update(zip(json.loads(config)["rootfs"]["diff_ids"], layers, strict=True))
        await asyncio.to_thread(_write_archive, archive, config, layers, tag)

    async def push(self, image: str, archive: Path) -> str:
        """The manifest's digest. Raises RegistryRefused, httpx.TransportError."""
        at = Reference.parse(image)
        config, layers = await asyncio.to_thread(self._unpacked, archive)
        async with self._client(at.host) as client:
            for digest, path in layers:
                await _push_blob(client, at, digest, path)
            about = self._folder / "config.json"
            about.write_bytes(config)
            await _push_blob(client, at, _digest(config), about)
            rows = [{"mediaType": _LAYER, "digest": digest, "size": path.stat().st_size} for digest, path in layers]
            top = {"mediaType": _CONFIG, "digest": _digest(config), "size": len(config)}
            manifest = json.dumps({"schemaVersion": 2, "mediaType": _MANIFEST, "config": top, "layers": rows}).encode()
            place = f"/v2/{at.path}/manifests/{at.version}"
            _accepted(await client.put(place, content=manifest, headers={"Content-Type": _MANIFEST}), 201)
        return _digest(manifest)

    async def _blob(self, client: httpx.AsyncClient, at: Reference, digest: str) -> Path:
        path = self._folder / digest.replace(":", "-")
        if not path.exists():
            place = f"/v2/{at.path}/blobs/{digest}"
            answer = await client.get(place)
            if answer.has_redirect_location:
                answer = await client.get(httpx.URL(answer.headers["location"]).raw_path.decode())
            path.write_bytes(_accepted(answer, 200).content)
        return path

    def _unpacked(self, archive: Path) -> tuple[bytes, list[tuple[str, Path]]]:
        """Configuration, and each layer's digest and file. Blocking."""
        with tarfile.open(archive) as tar:
            (row,) = json.loads(_member(tar, "manifest.json").read())
            config = _member(tar, row["Config"]).read()
            diff_ids = json.loads(config)["rootfs"]["diff_ids"]
            paths = [
                self._blobs.get(diff_id) or self._compressed(_member(tar, name), diff_id)
                for diff_id, name in zip(diff_ids, row["Layers"], strict=True)
            ]
        return config, [(_file_digest(path), path) for path in paths]

    def _compressed(self, tar: IO[bytes], diff_id: str) -> Path:
        path = self._folder / f"layer-{diff_id.replace(':', '-')}"
        with path.open("wb") as raw, gzip.GzipFile("", "wb", 1, raw, mtime=0) as packed:
            shutil.copyfileobj(tar, packed, _CHUNK)
        self._blobs[diff_id] = path
        return path


def _write_archive(archive: Path, config: bytes, layers: list[Path], tag: str) -> None:
    about = archive.with_suffix(".config")
    about.write_bytes(config)
    name = f"{_digest(config).removeprefix('sha256:')}.json"
    top = archive.with_suffix(".manifest")
    rows = {f"{path.name}.tar": path for path in layers}
    top.write_text(json.dumps([{"Config": name, "RepoTags": [tag], "Layers": [f"{path.name}.tar" for path in layers]}]))
    with tarfile.open(archive, "w") as tar:
        for inside, path in {name: about, "manifest.json": top, **rows}.items():
            tar.add(path, inside)


def _member(tar: tarfile.TarFile, name: str) -> IO[bytes]:
    file = tar.extractfile(name)
    if file is None:
        raise ValueError(f"the archive's {name} is no file")
    return file


async def _push_blob(client: httpx.AsyncClient, at: Reference, digest: str, path: Path) -> None:
    if (await client.head(f"/v2/{at.path}/blobs/{digest}")).status_code == 200:
        return
    started = _accepted(await client.post(f"/v2/{at.path}/blobs/uploads/"), 202)
    place = httpx.URL(started.headers["location"])
    target = place.copy_merge_params({"digest": digest}).raw_path.decode()
    _accepted(await client.put(target, content=_chunks(path)), 201)


async def _chunks(path: Path) -> AsyncIterator[bytes]:
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            yield chunk


def _accepted(answer: httpx.Response, status: int) -> httpx.Response:
    if answer.status_code == status:
        return answer
    try:
        words = str(answer.json()["errors"][0]["message"])
    except (ValueError, KeyError, IndexError, TypeError):
        words = f"unexpected status {answer.status_code}"
    raise RegistryRefused(answer.status_code, words)


def _digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def _file_digest(path: Path) -> str:
    with path.open("rb") as file:
        return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"
