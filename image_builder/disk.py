"""Files that are either whole or not there: written beside their place, synced, then renamed."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from image_builder.errors import DiskFull

PARTIAL = ".partial-"
"""Names of files that are being written start so; each is locked by its writer for as long as that lives."""


class PartialFile:
    """A file on its way to `folder`. Use as a context manager: what was not moved into place is removed."""

    def __init__(self, folder: Path, *, expected: int = 0) -> None:
        self._folder = folder
        self._expected = expected
        self._written = 0
        with full_disk_named(folder, expected):
            folder.mkdir(parents=True, exist_ok=True)
            self.path, self._file = _create_locked(folder)

    def write(self, data: bytes | memoryview) -> None:
        with full_disk_named(self._folder, max(self._expected, self._written + len(data))):
            self._file.write(data)
        self._written += len(data)

    def restart(self) -> None:
        """Throw away what was written."""
        self._file.seek(0)
        self._file.truncate()
        self._written = 0

    def move_to(self, name: str, *, durable: bool = True) -> Path:
        """Make it durable under its name; a file of that name is replaced at once."""
        with full_disk_named(self._folder, max(self._expected, self._written)):
            self._file.flush()
            if durable:
                os.fsync(self._file.fileno())
            target = self._folder / name
            self.path.replace(target)
            if durable:
                sync_folder(self._folder)
        self._file.close()
        return target

    def __enter__(self) -> PartialFile:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.path.unlink(missing_ok=True)
        # What is buffered may not fit on a full disk; it is thrown away in any case.
        with contextlib.suppress(OSError):
            self._file.close()


def write_whole(path: Path, data: bytes) -> None:
    """Write a small file atomically and durably.

    Raises:
        DiskFull: names the folder.
    """
    with PartialFile(path.parent, expected=len(data)) as partial:
        partial.write(data)
        partial.move_to(path.name)


def write_note(path: Path, data: bytes) -> None:
    """Write what can be found out again: at once, but after a power cut it may be empty or gone. Raises DiskFull.

    Waiting for the disk takes longer than finding out most of it, and an image has dozens of such notes.
    """
    with PartialFile(path.parent, expected=len(data)) as partial:
        partial.write(data)
        partial.move_to(path.name, durable=False)


def sweep(folder: Path) -> None:
    """Remove the unfinished files of writers that are dead, and of those only."""
    for path in folder.glob(f"{PARTIAL}*"):
        with contextlib.suppress(FileNotFoundError), path.open("r+b") as file:
            if try_lock(file):
                path.unlink(missing_ok=True)


def sweep_all(folder: Path) -> None:
    """The same in all that is below a folder, where notes are written too."""
    for where, _, names in os.walk(folder):
        if any(name.startswith(PARTIAL) for name in names):
            sweep(Path(where))


def sync_folder(folder: Path) -> None:
    """A rename is durable only once its folder is: see fsync(2)."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def full_disk_named(folder: Path, needed: int) -> Iterator[None]:
    """Turn "no space left" into an error that says where and how much.

    Raises:
        DiskFull: retryable, since space may be made.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise DiskFull(
            f"no space left in {folder}: {_megabytes(needed)} needed, {_free(folder)} free",
            "Make room there, or set STATE_DIR or CACHE_DIR to a larger disk; the build then goes on by itself.",
        ) from error


@contextlib.contextmanager
def locked(path: Path, *, shared: bool = False) -> Iterator[None]:
    """Hold a lock over processes and threads, for a moment; with others, if they share it too. The file stays."""
    with path.open("a+b") as file:  # network filesystems want the rights for both kinds of lock
        fcntl.flock(file, fcntl.LOCK_SH if shared else fcntl.LOCK_EX)
        yield


def _create_locked(folder: Path) -> tuple[Path, BinaryIO]:
    """A sweeper may take the file between its creation and its lock: then it has no name any more; try again."""
    while True:
        path = folder / f"{PARTIAL}{secrets.token_hex(8)}"
        file = path.open("xb")
        if try_lock(file) and os.fstat(file.fileno()).st_nlink:
            return path, file
        file.close()


def try_lock(file: BinaryIO) -> bool:
    """Lock an open file until it is closed, or its process dies. False if another has it."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _free(folder: Path) -> str:
    try:
        return _megabytes(shutil.disk_usage(folder).free)
    except OSError:
        return "an unknown amount"


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.1f} MB"
