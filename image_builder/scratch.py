"""Folders for the moment: gone when they are left, and swept at the next start if their process died."""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from image_builder.disk import full_disk_named
from image_builder.work import in_thread


class Scratch:
    """Folders below one folder; each is locked by its process for as long as that lives."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def prepare(self) -> None:
        """Remove what dead processes have left, and that only. Blocking."""
        self._folder.mkdir(parents=True, exist_ok=True)
        for left in self._folder.iterdir():
            with contextlib.suppress(FileNotFoundError):
                descriptor = os.open(left, os.O_RDONLY)
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    _remove(left)
                except BlockingIOError:
                    continue  # its process lives
                finally:
                    os.close(descriptor)

    @contextlib.asynccontextmanager
    async def new(self) -> AsyncIterator[Path]:
        """An empty folder; nothing of it is left when this is left.

        Raises:
            DiskFull
        """
        path = self._folder / secrets.token_hex(8)
        with full_disk_named(self._folder, 0):
            path.mkdir(mode=0o700)
        descriptor = os.open(path, os.O_RDONLY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            with full_disk_named(self._folder, 0):
                yield path
        finally:
            try:
                await in_thread(lambda _: _remove(path))
            finally:
                os.close(descriptor)


def _remove(path: Path) -> None:
    """Whatever the modes in it: builds of packages leave folders that may not be written to."""

    def open_up(function: Any, name: str, _: object) -> None:
        Path(name).parent.chmod(0o700)
        function(name)

    shutil.rmtree(path, onerror=open_up)
