"""One builder per folder."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from image_builder.errors import BuildError


@contextmanager
def folder_lock(folder: Path) -> Iterator[None]:
    """Hold the folder until the block ends or the process dies, whatever kills it.

    Raises:
        BuildError: another process holds it, or it cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise BuildError(
            f"cannot use the folder {folder}: {error.strerror}", "Set STATE_DIR to a folder that can be written."
        ) from error
    try:
        _take(handle, folder)
        yield
    finally:
        os.close(handle)


def _take(handle: int, folder: Path) -> None:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        holder = os.pread(handle, 20, 0).decode(errors="replace").strip() or "unknown"
        raise BuildError(
            f"another image builder (process {holder}) works in {folder}",
            "Stop that one first, or set STATE_DIR to another folder.",
            code="folder_in_use",
        ) from error
    os.ftruncate(handle, 0)
    os.pwrite(handle, f"{os.getpid()}\n".encode(), 0)
