"""An OCI image layout on disk: https://github.com/opencontainers/image-spec/blob/main/image-layout.md"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

from image_builder.disk import PartialFile, locked, sweep, write_whole

REF_NAME = "org.opencontainers.image.ref.name"
_DIGEST = re.compile(r"sha256:([0-9a-f]{64})")


class Layout:
    """Blobs by digest (`sha256:<64 hex>`). What is visible is whole and on disk; several processes may share it."""

    def __init__(self, folder: Path, use: Callable[[Path], None] = lambda _: None) -> None:
        """use: told of a file before it is asked for or moved into place, so that it stays (see `leases.py`)."""
        self.folder = folder
        self.use = use
        self._blobs = folder / "blobs" / "sha256"

    def prepare(self) -> None:
        """Make an empty layout unless there is one; sweep what dead writers left. Blocking."""
        self._blobs.mkdir(parents=True, exist_ok=True)
        sweep(self._blobs)
        sweep(self.folder)
        if not (self.folder / "oci-layout").exists():
            write_whole(self.folder / "oci-layout", b'{"imageLayoutVersion":"1.0.0"}')
        with locked(self.folder / ".lock"):
            if not self._index.exists():
                self._write_index([])

    def has(self, digest: str) -> bool:
        self.use(self.path(digest))
        return self.path(digest).is_file()

    def size(self, digest: str) -> int | None:
        """Bytes of a blob, None if it is not there."""
        self.use(self.path(digest))
        try:
            return self.path(digest).stat().st_size
        except FileNotFoundError:
            return None

    def path(self, digest: str) -> Path:
        """Where a blob lies. ValueError for what is no sha256 digest; the file need not exist."""
        match = _DIGEST.fullmatch(digest)
        if match is None:
            raise ValueError(f"not a sha256 digest: {digest[:100]!r}")
        return self._blobs / match[1]

    def open_blob(self, digest: str) -> BinaryIO:
        """FileNotFoundError if it is not there."""
        self.use(self.path(digest))
        return self.path(digest).open("rb")

    def writer(self, *, expected: int = 0) -> BlobWriter:
        """A new blob. `expected`: its size in bytes, where known, for the words of a full disk."""
        return BlobWriter(PartialFile(self._blobs, expected=expected), lambda name: self.use(self._blobs / name))

    def add(self, data: bytes) -> str:
        """Store a small blob, unless it is there; its digest."""
        digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
        if self.has(digest):
            return digest
        with self.writer(expected=len(data)) as writer:
            writer.write(data)
            return writer.commit()

    def image(self, name: str) -> str | None:
        """Manifest digest of the image with this name (a plan's id), or None."""
        for row in self._manifests():
            if row.get("annotations", {}).get(REF_NAME) == name:
                return str(row["digest"])
        return None

    def name_image(self, name: str, descriptor: dict[str, Any]) -> None:
        """Give the image of `descriptor` a name; an older image of that name loses it."""
        row = {**descriptor, "annotations": {**descriptor.get("annotations", {}), REF_NAME: name}}
        with locked(self.folder / ".lock"):
            rows = [old for old in self._manifests() if old.get("annotations", {}).get(REF_NAME) != name]
            if [*rows, row] != self._manifests():
                self._write_index([*rows, row])

    def images(self) -> dict[str, str]:
        """Manifest digest of each image by its name."""
        named = ((row.get("annotations", {}).get(REF_NAME), row["digest"]) for row in self._manifests())
        return {str(name): str(digest) for name, digest in named if name}

    def mend(self) -> bool:
        """An index that cannot be read is made anew, empty: its blobs stay, and have names again when built again."""
        with locked(self.folder / ".lock"):
            try:
                self.images()
            except (ValueError, LookupError, TypeError, AttributeError):
                self._write_index([])
                return True
        return False

    def forget_image(self, name: str, digest: str) -> None:
        """Take the name from an image, if it still has it; its blobs stay."""
        with locked(self.folder / ".lock"):
            if self.images().get(name) == digest:
                self._write_index(
                    [row for row in self._manifests() if row.get("annotations", {}).get(REF_NAME) != name]
                )

    @property
    def _index(self) -> Path:
        return self.folder / "index.json"

    def _manifests(self) -> list[dict[str, Any]]:
        manifests: list[dict[str, Any]] = json.loads(self._index.read_bytes())["manifests"]
        return manifests

    def _write_index(self, manifests: list[dict[str, Any]]) -> None:
        index = {
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.index.v1+json",
            "manifests": manifests,
        }
        write_whole(self._index, json.dumps(index).encode())


class BlobWriter:
    """Bytes on their way to a blob. A context manager: without `commit` nothing is left."""

    def __init__(self, partial: PartialFile, promise: Callable[[str], None]) -> None:
        self._partial = partial
        self._promise = promise
        self._hash = hashlib.sha256()
        self.size = 0

    @property
    def path(self) -> Path:
        """Where it is before `commit`."""
        return self._partial.path

    def write(self, data: bytes | memoryview) -> None:
        self._partial.write(data)
        self._hash.update(data)
        self.size += len(data)

    def commit(self) -> str:
        """The blob is durable and visible now; its digest."""
        name = self._hash.hexdigest()
        self._promise(name)
        self._partial.move_to(name)
        return f"sha256:{name}"

    def __enter__(self) -> BlobWriter:
        return self

    def __exit__(self, *exc: object) -> None:
        self._partial.__exit__(*exc)
