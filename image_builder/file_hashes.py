"""sha256 of files, remembered by their stat: an unchanged file is read once."""

from __future__ import annotations

from pathlib import Path


class FileHashes:
    """Thread-safe. `database`: where it is kept between runs; None: in memory only."""

    def __init__(self, database: Path | None = None) -> None:
        self._database = database

    def sha256(self, path: Path) -> str:
        """Hex digest of a regular file.

        Raises:
            OSError: it cannot be read.
        """
        raise NotImplementedError(path)

    def close(self) -> None: ...
