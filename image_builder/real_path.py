"""Files of projects, opened without ever leaving the project, whatever is exchanged for a link meanwhile."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

_NO_WAIT = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
"""A pipe is opened at once, not when someone writes to it."""
_DESCRIPTORS = "/proc/self/fd"


def open_real(path: Path, flags: int = 0) -> int:
    """A descriptor of `path`, which has no symbolic link in any of its parts. Whoever may write to a project could
    put one there after it was looked at, and so have any file of this machine in an image.

    Raises:
        OSError: ELOOP if there is one.
    """
    descriptor = os.open(path, _NO_WAIT | flags)
    try:
        where = os.readlink(f"{_DESCRIPTORS}/{descriptor}")  # noqa: PTH115 - Path.readlink would normalise the text
    except OSError:  # no /proc, as on macOS
        os.close(descriptor)
        return _step_by_step(path, flags)
    if where != str(path):
        os.close(descriptor)
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(path))
    return descriptor


def _step_by_step(path: Path, flags: int) -> int:
    here = os.open(path.anchor, os.O_RDONLY | os.O_DIRECTORY)
    for name in path.parts[1:-1]:
        here = _then(here, name, os.O_DIRECTORY)
    return _then(here, path.name, flags)


def _then(folder: int, name: str, flags: int) -> int:
    try:
        return os.open(name, _NO_WAIT | flags, dir_fd=folder)
    finally:
        os.close(folder)


def read_small(path: Path, largest: int) -> bytes:
    """A regular file whole, of which at most `largest` + 1 bytes are read.

    Raises:
        OSError: also for what is no regular file, and for a link in its path.
    """
    descriptor = open_real(path)
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "it is no regular file", str(path))
        return file.read(largest + 1)
