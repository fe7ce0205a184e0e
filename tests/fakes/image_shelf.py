"""OCI images in memory, and a Builder that serves nothing but their blobs."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import sys
import tarfile
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

from cloud_manager.errors import BuilderUnavailable, NotFound
from image_builder.contract import BuildEvent, BuildRequest, BuildStatus, ImageReference

VERSION = f"{sys.version_info.major}.{sys.version_info.minor}"
SITE = f"opt/venv/lib/python{VERSION}/site-packages"


def tar_gz(members: Sequence[tarfile.TarInfo | tuple[str, bytes]]) -> bytes:
    """A gzip tar of several gzip members, as the image builder makes them."""
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w") as tar:
        for member in members:
            if isinstance(member, tarfile.TarInfo):
                tar.addfile(member)
            else:
                info = tarfile.TarInfo(member[0])
                info.size, info.mode = len(member[1]), 0o644
                tar.addfile(info, io.BytesIO(member[1]))
    data = plain.getvalue()
    middle = len(data) // 2
    return gzip.compress(data[:middle], mtime=0) + gzip.compress(data[middle:], mtime=0)


class ImageShelf:
    """Implements `cloud_manager.builder.Builder` as far as a target needs it.

    down: blobs are refused, as by a builder that does not answer.
    sent: digests that were asked for, in order.
    chunk: bytes per chunk.
    """

    def __init__(self, chunk: int = 4096) -> None:
        self.blobs: dict[str, bytes] = {}
        self.sent: list[str] = []
        self.down = False
        self.chunk = chunk

    def add(self, data: bytes) -> str:
        digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
        self.blobs[digest] = data
        return digest

    def image(
        self,
        program: Mapping[str, str],
        *,
        entrypoint: Sequence[str] = ("python", "server.py"),
        packages: Mapping[str, str] | None = None,
        more_layers: Sequence[bytes] = (),
    ) -> ImageReference:
        """An image as the builder makes them for the base `scratch`."""
        installed = {"shelf_package.py": "NAME = 'a package'\n", **(packages or {})}
        wheels = tar_gz([(f"{SITE}/{name}", text.encode()) for name, text in installed.items()])
        files = tar_gz([(f"workspace/{name}", text.encode()) for name, text in program.items()])
        layers = [wheels, *more_layers, files]
        config: dict[str, Any] = {
            "architecture": "amd64",
            "os": "linux",
            "config": {
                "Env": ["PATH=/opt/venv/bin:/usr/local/bin:/usr/bin:/bin", "VIRTUAL_ENV=/opt/venv"],
                "WorkingDir": "/workspace",
                "Entrypoint": list(entrypoint),
                "ExposedPorts": {"8080/tcp": {}},
            },
        }
        manifest = {
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": self._descriptor(json.dumps(config).encode(), "application/vnd.oci.image.config.v1+json"),
            "layers": [self._descriptor(layer, "application/vnd.oci.image.layer.v1.tar+gzip") for layer in layers],
        }
        digest = self.add(json.dumps(manifest).encode())
        return ImageReference(repository="builds/shelf", digest=digest, size=sum(map(len, layers)))

    def _descriptor(self, data: bytes, media_type: str) -> dict[str, Any]:
        return {"mediaType": media_type, "digest": self.add(data), "size": len(data)}

    async def blob(self, image: ImageReference, digest: str) -> AsyncIterator[bytes]:
        self.sent.append(digest)
        data = self.blobs[digest]
        for start in range(0, len(data), self.chunk):
            if self.down:
                raise BuilderUnavailable("the image builder does not answer", "start it")
            yield data[start : start + self.chunk]

    async def submit(self, request: BuildRequest) -> BuildStatus:
        raise NotFound("the shelf builds nothing", "put an image on it with image()")

    async def status(self, build_id: str) -> BuildStatus | None:
        return None

    async def release(self, build_id: str, owner: str) -> None:
        return None

    async def events(self, build_id: str, *, after: int = 0) -> AsyncIterator[BuildEvent]:
        return
        yield

    async def aclose(self) -> None:
        return None
