"""An OCI image layout on disk: https://github.com/opencontainers/image-spec/blob/main/image-layout.md"""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO


class Layout:
    """Blobs by digest (`sha256:<64 hex>`). What is visible is whole and on disk; several processes may share it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def has(self, digest: str) -> bool:
        raise NotImplementedError(digest)

    def path(self, digest: str) -> Path:
        """Where a blob lies. ValueError for what is no sha256 digest; the file need not exist."""
        raise NotImplementedError(digest)

    def open_blob(self, digest: str) -> BinaryIO:
        """FileNotFoundError if it is not there."""
        raise NotImplementedError(digest)

    def image(self, name: str) -> str | None:
        """Manifest digest of the image with this name (a plan's id), or None."""
        raise NotImplementedError(name)
