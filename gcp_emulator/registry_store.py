"""Images in the twin's state: blobs once for all, and which image may use which; manifests, tags, open uploads."""

from __future__ import annotations

import asyncio
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gcp_emulator.registry_names import ImageName
from gcp_emulator.state import State


@dataclass(frozen=True)
class Manifest:
    digest: str
    media_type: str
    data: bytes


class Upload:
    """The bytes of a blob that have come so far. They are there after a restart, too."""

    def __init__(self, name: str, image: ImageName, path: Path) -> None:
        self.name = name
        self.image = image
        self.lock = asyncio.Lock()  # one call at a time
        self._path = path
        self._hash = hashlib.sha256()
        self._hashed = 0

    @property
    def size(self) -> int:
        return self._path.stat().st_size

    def append(self, data: bytes) -> None:
        if self._hashed == self.size:
            self._hash.update(data)
            self._hashed += len(data)
        with self._path.open("ab") as file:
            file.write(data)

    def digest(self) -> str:
        """Of all that came; read again if some of it came to another process."""
        if self._hashed != self.size:
            with self._path.open("rb") as file:
                self._hash = hashlib.file_digest(file, "sha256")
            self._hashed = self.size
        return f"sha256:{self._hash.hexdigest()}"


class RegistryStore:
    def __init__(self, state: State) -> None:
        self._state = state
        self._blobs = state.blobs("registry")
        self._links = state.json_table("registry.links")
        self._uploads = state.json_table("registry.uploads")
        self._types = state.json_table("registry.manifests")
        self._manifests = state.bytes_table("registry.manifest_bytes")
        self._tags = state.json_table("registry.tags")
        self._open: dict[str, Upload] = {}

    # -- blobs -------------------------------------------------------------------------------------------------

    def blob(self, image: ImageName, digest: str) -> Path | None:
        """None where this image has no such blob, although another may."""
        return self._blobs.path(_file(digest)) if self._links.get(image.key + digest) else None

    def any_blob(self, digest: str) -> Path:
        return self._blobs.path(_file(digest))

    def mount(self, image: ImageName, digest: str, source: ImageName) -> bool:
        """Let the image use a blob of another; False where that has none."""
        if self.blob(source, digest) is None:
            return False
        self._links.put(image.key + digest, True)
        return True

    # -- uploads -----------------------------------------------------------------------------------------------

    def begin(self, image: ImageName) -> Upload:
        path = self._blobs.new()
        row = {"location": image.location, "project": image.project, "repository": image.repository}
        self._uploads.put(path.name, {**row, "image": image.image})
        return self._opened(path.name, image)

    def upload(self, name: str) -> Upload | None:
        """None for one that never was or has ended, also one that a kill met just as it ended."""
        if name in self._open:
            return self._open[name]
        row: dict[str, Any] | None = self._uploads.get(name)
        if row is None or not self._blobs.unfinished(name).exists():
            return None
        return self._opened(name, ImageName(**row))

    def finish(self, upload: Upload, digest: str) -> None:
        """What came is the blob of this digest; the caller has compared."""
        self._blobs.keep(self._blobs.unfinished(upload.name), _file(digest))
        with self._state.transaction():
            self._links.put(upload.image.key + digest, True)
            self._uploads.delete(upload.name)
        self._open.pop(upload.name, None)

    def abandon(self, upload: Upload) -> None:
        self._uploads.delete(upload.name)
        self._blobs.unfinished(upload.name).unlink(missing_ok=True)
        self._open.pop(upload.name, None)

    def _opened(self, name: str, image: ImageName) -> Upload:
        return self._open.setdefault(name, Upload(name, image, self._blobs.unfinished(name)))

    # -- manifests ---------------------------------------------------------------------------------------------

    def manifest(self, image: ImageName, reference: str) -> Manifest | None:
        """reference: a tag or a digest."""
        digest = reference if ":" in reference else self._tags.get(image.key + reference)
        data = self._manifests.get(f"{image.key}{digest}")
        row = self._types.get(f"{image.key}{digest}")
        return Manifest(str(digest), row["type"], data) if data is not None and row is not None else None

    def put_manifest(self, image: ImageName, manifest: Manifest, tag: str | None, now: float, size: int) -> None:
        key = image.key + manifest.digest
        with self._state.transaction():
            self._manifests.put(key, manifest.data)
            self._types.create(key, {"type": manifest.media_type, "uploaded": now, "size": size})
            if tag:
                self._tags.put(image.key + tag, manifest.digest)

    def tags(self, image: ImageName) -> dict[str, str]:
        """Digest by tag, sorted."""
        return {key.removeprefix(image.key): digest for key, digest in self._tags.list(image.key)}

    def digests(self, image: ImageName) -> dict[str, dict[str, Any]]:
        """`type`, `uploaded` (Unix time) and `size` (bytes of all its blobs) by digest."""
        return {key.removeprefix(image.key): row for key, row in self._types.list(image.key)}

    def delete_tag(self, image: ImageName, tag: str) -> bool:
        return self._tags.delete(image.key + tag)

    def delete_manifest(self, image: ImageName, digest: str) -> bool:
        with self._state.transaction():
            self._types.delete(image.key + digest)
            return self._manifests.delete(image.key + digest)


def _file(digest: str) -> str:
    return digest.replace(":", "-")
