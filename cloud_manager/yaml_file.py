"""Reading deployment.yaml from the shared disk, where other programs write it at the same time."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path

from cloud_manager.errors import InvalidSpec, NotFound
from cloud_manager.finding import Finding

LIMIT = 1024 * 1024
"""Bytes. A deployment.yaml has a few hundred."""
_TRIES = 3

ReadBytes = Callable[[int, int], bytes]
"""As `os.read`: descriptor, most bytes."""


def read(path: Path, display: str, *, read_bytes: ReadBytes = os.read) -> bytes:
    """The bytes of a file that did not change while they were read.

    Raises:
        NotFound: there is no such file.
        InvalidSpec: it is no regular file, is a link out of its folder, is over 1 MiB, cannot be read; or
            (retryable) it changed during each of three attempts.
    """
    try:
        for _ in range(_TRIES):
            data = _attempt(path, display, read_bytes)
            if data is not None:
                return data
    except FileNotFoundError as error:
        where = "" if "/" in display else f" in the folder {path.parent.name}"
        raise NotFound(f"there is no {display}{where}", "Put the file there, or mend the name.") from error
    except OSError as error:
        raise _refused(display, f"cannot be read: {error.strerror}", "Check the file and its permissions.") from error
    raise _refused(display, "is being written", "Try again in a moment.", retryable=True)


def _attempt(path: Path, display: str, read_bytes: ReadBytes) -> bytes | None:
    """None if the file changed meanwhile."""
    # O_NONBLOCK: opening a named pipe would wait for its writer for ever.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        before = os.fstat(descriptor)
        _check(path, display, before)
        data = _read_all(descriptor, read_bytes)
        after = (os.fstat(descriptor), path.stat())
    finally:
        os.close(descriptor)
    return data if all(_identity(state) == _identity(before) for state in after) else None


def _check(path: Path, display: str, state: os.stat_result) -> None:
    if not stat.S_ISREG(state.st_mode):
        raise _refused(display, "is not a regular file", "Put an ordinary file there.")
    real = Path(os.path.realpath(path))
    if Path(os.path.realpath(path.parent)) not in real.parents or not os.path.samestat(real.stat(), state):
        raise _refused(display, "is a link to a place outside the project", "Put the file itself into the project.")
    if state.st_size > LIMIT:
        size = f"has {state.st_size:,} bytes; the limit is {LIMIT:,} bytes (1 MiB)"
        raise _refused(display, size, "Keep data and weights in files of their own.")


def _read_all(descriptor: int, read_bytes: ReadBytes) -> bytes:
    parts: list[bytes] = []
    left = LIMIT + 1
    while left and (part := read_bytes(descriptor, left)):
        parts.append(part)
        left -= len(part)
    return b"".join(parts)


def _identity(state: os.stat_result) -> tuple[int, int, int, int]:
    return state.st_dev, state.st_ino, state.st_size, state.st_mtime_ns


def _refused(display: str, message: str, fix: str, *, retryable: bool = False) -> InvalidSpec:
    return InvalidSpec.found([Finding(display, 1, 1, "", f"the file {message}")], fix=fix, retryable=retryable)
