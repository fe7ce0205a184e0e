"""A file that is read while it is written: its bytes are on their way before the last of them is there."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path

_PIECE = 1 << 20


class GrowingFile:
    """Written in a thread, read on the event loop, by anybody from any offset. Use it as a context manager."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._news = asyncio.Event()
        self.begun = asyncio.Event()
        """Set once there is a file."""
        self._descriptor = -1
        self._size = self._told = 0
        self._over = False

    # -- the writer's side, in its thread ------------------------------------------------------------------------

    def begin(self, path: Path) -> None:
        """path: it may be renamed later on."""
        self._descriptor = os.open(path, os.O_RDONLY)
        self._loop.call_soon_threadsafe(self.begun.set)

    def grown(self, sink: Callable[[bytes], None]) -> Callable[[bytes], None]:
        """The sink that the file's bytes go to, and of which readers hear."""

        def write(data: bytes) -> None:
            sink(data)
            self._size += len(data)
            if self._size - self._told >= _PIECE:
                self._tell()

        return write

    def end(self) -> None:
        """All is in the file."""
        self._over = True
        self._tell()

    def _tell(self) -> None:
        self._told = self._size
        self._loop.call_soon_threadsafe(self._news.set)

    # -- the reader's side ---------------------------------------------------------------------------------------

    async def pieces(self) -> AsyncIterator[bytes]:
        """All bytes, as they come; waits for what is not there yet. Only once it has begun."""
        offset = 0
        while True:
            self._news.clear()
            over = self._over  # before the look: what is written after it is seen at the next
            if piece := await asyncio.to_thread(self._read, offset):
                offset += len(piece)
                yield piece
            elif over:
                return
            else:
                await self._news.wait()

    def _read(self, offset: int) -> bytes:
        return os.pread(self._descriptor, _PIECE, offset)

    def __enter__(self) -> GrowingFile:
        return self

    def __exit__(self, *_: object) -> None:
        """Call it when nobody reads or writes any more."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
