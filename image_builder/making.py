"""What is made is made once at a time, over all builds of all builders that share a volume."""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from weakref import WeakValueDictionary

_PAUSE, _LONGEST_PAUSE = 0.01, 0.2
"""Seconds between two looks at what another process holds: none is told when that becomes free."""


class Making:
    """`async with making(key)`: nobody else is in there with this key. Use it in one event loop.

    Builds of one process wait in line. Between processes a byte of one file is locked for each key: that takes no file
    and no descriptor of its own, and the system frees it when its process dies, whatever kills it. It is freed as well
    when the process closes any descriptor of that file: so nothing but this class opens it, once.
    https://pubs.opengroup.org/onlinepubs/9699919799/functions/fcntl.html
    """

    def __init__(self, file: Path | None = None, *, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep) -> None:
        """file: which all builders on the volume name; its folder exists. None: for this process alone."""
        self._file = None if file is None else os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        self._sleep = sleep
        self._line: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    @asynccontextmanager
    async def __call__(self, key: str) -> AsyncIterator[None]:
        """May be cancelled while it waits."""
        async with self._line.setdefault(key, asyncio.Lock()):
            if self._file is None:
                yield
                return
            await self._take(self._file, _byte(key))
            try:
                yield
            finally:
                fcntl.lockf(self._file, fcntl.LOCK_UN, 1, _byte(key))

    def close(self) -> None:
        """What is held becomes free."""
        if self._file is not None:
            os.close(self._file)

    async def _take(self, file: int, byte: int) -> None:
        pause = _PAUSE
        while not _try_byte(file, byte):
            await self._sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)


def _byte(key: str) -> int:
    """Where in the file; it need not be that long. Two keys never meet there: it is 62 bits of a hash."""
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big") >> 2


def _try_byte(file: int, byte: int) -> bool:
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, byte)
    except (BlockingIOError, PermissionError):  # systems differ in which of the two says "another has it"
        return False
    return True
