"""What running builds use is told here, so that whoever clears the cache, in any process, leaves it alone."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from image_builder.disk import full_disk_named, locked, try_lock


class Leases:
    """A file for each running build, locked for as long as that lives, with a line for each file it uses.

    A name is written before the file is looked for, under a lock that builds share and that excludes who clears: so a
    file is either found and stays to the end of the build, or is found to be gone and made anew. Thread-safe; several
    processes may share the folder. A lease of a dead process holds nothing.
    """

    def __init__(self, folder: Path) -> None:
        """folder: the cache's; names are relative to it."""
        self._root = folder
        self._folder = folder / "leases"
        self._lock = folder / "cache.lock"
        self._guard = threading.Lock()
        self._open: set[_Lease] = set()

    @contextlib.contextmanager
    def taken(self) -> Iterator[None]:
        """For as long as one build runs."""
        self._folder.mkdir(parents=True, exist_ok=True)
        with locked(self._lock, shared=True):
            lease = _Lease(self._folder)
        with self._guard:
            self._open.add(lease)
        try:
            yield
        finally:
            with self._guard:
                self._open.discard(lease)
                lease.close()

    def use(self, path: Path) -> None:
        """Promise a file to all builds that run here, and note that it was used just now. It need not exist."""
        name = path.relative_to(self._root).as_posix()
        with self._guard:
            fresh = [lease for lease in self._open if name not in lease.names]
            if fresh:
                with locked(self._lock, shared=True):
                    for lease in fresh:
                        lease.add(name)
        with contextlib.suppress(OSError):  # not there, or not ours to touch: then it counts as older than it is
            os.utime(path)

    @contextlib.contextmanager
    def clearing(self) -> Iterator[frozenset[str]]:
        """Nobody begins to use a file meanwhile, so hold it for a moment only. Yields the names in use."""
        with locked(self._lock):
            yield self._names()

    def in_use(self) -> frozenset[str]:
        """The names in use just now."""
        with self.clearing() as names:
            return names

    def _names(self) -> frozenset[str]:
        found: set[str] = set()
        for path in self._folder.iterdir() if self._folder.is_dir() else ():
            with (
                contextlib.suppress(FileNotFoundError),
                path.open("r+b") as file,
            ):  # some network filesystems want that for a lock
                if try_lock(file):
                    path.unlink(missing_ok=True)
                else:
                    found.update(file.read().decode().splitlines())
        return frozenset(found)


class _Lease:
    def __init__(self, folder: Path) -> None:
        self._path = folder / secrets.token_hex(8)
        with full_disk_named(folder, 0):
            self._file: BinaryIO = self._path.open("xb", buffering=0)
        try_lock(self._file)
        self.names: set[str] = set()

    def add(self, name: str) -> None:
        line, end = f"{name}\n".encode(), self._file.tell()
        with full_disk_named(self._path.parent, len(line)):
            if self._file.write(line) < len(line):  # half a name would spoil the next one, too
                self._file.truncate(end)
                self._file.seek(end)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self.names.add(name)

    def close(self) -> None:
        self._path.unlink(missing_ok=True)
        self._file.close()
