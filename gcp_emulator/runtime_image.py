"""An image of Artifact Registry -> a folder that stands for its `/`, fetched through the registry's own API.

https://github.com/opencontainers/distribution-spec/blob/main/spec.md, https://github.com/opencontainers/image-spec
"""

from __future__ import annotations

import asyncio
import json
import os
import platform
import re
import secrets
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from gcp_emulator.runtime_protocol import CannotRun, ImageDenied, ImageMissing
from gcp_emulator.runtime_unpack import BadLayer, lay_over

_SYSTEM = ("bin", "lib", "lib64", "usr/bin", "usr/lib")
_HOST = re.compile(r"[a-z0-9-]+-docker\.pkg\.dev")
_INDEXES = ("application/vnd.oci.image.index.v1+json", "application/vnd.docker.distribution.manifest.list.v2+json")
_MANIFESTS = ("application/vnd.oci.image.manifest.v1+json", "application/vnd.docker.distribution.manifest.v2+json")
_MACHINE = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())


@dataclass(frozen=True, slots=True)
class Image:
    """`root` is shared by all instances of the image."""

    digest: str
    root: Path
    argv: tuple[str, ...]
    entrypoint: tuple[str, ...]
    env: dict[str, str] = field(default_factory=dict)
    working_dir: str = "/"
    user: str = ""

    @property
    def has_base(self) -> bool:
        """Whether it holds a system of its own, and not only programs for one that is there."""
        return any(os.path.lexists(self.root / part) for part in _SYSTEM)


@dataclass(frozen=True, slots=True)
class Reference:
    """`HOST/PROJECT/REPOSITORY/NAME[:TAG][@DIGEST]`; the digest counts where both are given."""

    host: str
    path: str
    version: str

    @classmethod
    def parse(cls, text: str) -> Reference:
        name, _, digest = text.partition("@")
        host, _, path = name.partition("/")
        before, colon, tag = path.rpartition(":")
        path, tag = (before, tag) if colon and "/" not in tag else (path, "latest")
        return cls(host, path, digest or tag)


class Images:
    """Args:
    folder: of unpacked images, one for each digest.
    client: with the registry's address and our credentials, for a host; asked for at each use, for its port is
        known late.
    """

    def __init__(self, folder: Path, client: Callable[[str], httpx.AsyncClient]) -> None:
        self._folder = folder
        self._client = client
        self._locks: dict[str, asyncio.Lock] = {}

    async def fetch(self, image: str) -> Image:
        """Raises ImageMissing, ImageDenied, CannotRun."""
        reference = Reference.parse(image)
        if not _HOST.fullmatch(reference.host):
            raise ImageMissing(image)
        async with self._client(reference.host) as client:
            try:
                digest, manifest = await _manifest(client, reference)
                config = (await _get(client, f"/v2/{reference.path}/blobs/{manifest['config']['digest']}")).json()
                root = await self._unpacked(client, reference, digest, manifest["layers"])
            except (httpx.TransportError, KeyError, ValueError, BadLayer) as error:
                raise CannotRun(f"{image}: {type(error).__name__}: {error}") from error
        return _image(digest, root, config.get("config") or {})

    async def _unpacked(
        self, client: httpx.AsyncClient, reference: Reference, digest: str, layers: list[dict[str, Any]]
    ) -> Path:
        root = self._folder / digest.replace(":", "-")
        async with self._locks.setdefault(digest, asyncio.Lock()):
            if root.exists():
                return root
            partial = self._folder / f".partial-{secrets.token_hex(8)}"
            partial.mkdir(parents=True)
            try:
                for layer in layers:
                    blob = partial / "blob"
                    await _download(client, f"/v2/{reference.path}/blobs/{layer['digest']}", blob)
                    await asyncio.to_thread(lay_over, blob, str(layer["mediaType"]), partial / "root")
                (partial / "root").mkdir(exist_ok=True)
                (partial / "root").replace(root)
            finally:
                await asyncio.to_thread(shutil.rmtree, partial, ignore_errors=True)
        return root


async def _manifest(client: httpx.AsyncClient, reference: Reference) -> tuple[str, dict[str, Any]]:
    """(digest, manifest) for this machine."""
    headers = {"Accept": ", ".join((*_MANIFESTS, *_INDEXES))}
    answer = await _get(client, f"/v2/{reference.path}/manifests/{reference.version}", headers)
    manifest = json.loads(answer.content)
    if manifest.get("mediaType", answer.headers.get("content-type")) not in _INDEXES:
        return answer.headers.get("docker-content-digest", reference.version), manifest
    rows = [one for one in manifest["manifests"] if (one.get("platform") or {}).get("architecture") == _MACHINE]
    if not rows:
        raise CannotRun(f"{reference.path} has no image for {_MACHINE}")
    return await _manifest(client, Reference(reference.host, reference.path, rows[0]["digest"]))


async def _get(client: httpx.AsyncClient, path: str, headers: dict[str, str] | None = None) -> httpx.Response:
    answer = await client.get(path, headers=headers)
    if answer.has_redirect_location:  # of a blob, to the place it is downloaded from: the same server
        answer = await client.get(_elsewhere(answer))
    return _allowed(answer, path)


def _elsewhere(answer: httpx.Response) -> str:
    return httpx.URL(answer.headers["location"]).raw_path.decode()


async def _download(client: httpx.AsyncClient, path: str, target: Path) -> None:
    async with client.stream("GET", path) as answer:
        if answer.has_redirect_location:
            return await _download(client, _elsewhere(answer), target)
        _allowed(answer, path)
        with target.open("wb") as file:
            async for chunk in answer.aiter_raw():
                file.write(chunk)
    return None


def _allowed(answer: httpx.Response, path: str) -> httpx.Response:
    if answer.status_code in (401, 403):
        raise ImageDenied(path)
    if answer.status_code == 404:
        raise ImageMissing(path)
    if answer.is_error:
        raise CannotRun(f"the registry answered {answer.status_code} to {path}")
    return answer


def _image(digest: str, root: Path, config: dict[str, Any]) -> Image:
    entrypoint, command = tuple(config.get("Entrypoint") or ()), tuple(config.get("Cmd") or ())
    env = dict(line.split("=", 1) for line in config.get("Env") or () if "=" in line)
    return Image(
        digest,
        root,
        (*entrypoint, *command),
        entrypoint,
        env,
        config.get("WorkingDir") or "/",
        config.get("User") or "",
    )
