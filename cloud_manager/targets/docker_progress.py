"""How far a transfer is, told now and then; and the end of patience with one that stands still."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from cloud_manager.clock import Clock
from cloud_manager.errors import TargetError

Log = Callable[[str], None]
"""Takes one line for the project's history."""

_EVERY = 5.0
"""Seconds between two lines."""
SILENCE = 300.0
"""Seconds that an engine may be silent: it unpacks a large layer without a word."""


class Transfer:
    """Bytes that went, or come. what: e.g. `loading the image into the Docker Engine`."""

    def __init__(self, what: str, log: Log, clock: Clock, limit: asyncio.Timeout, silence: float) -> None:
        self.done, self.total = 0, 0
        self._what, self._log, self._clock = what, log, clock
        self._limit, self._silence = limit, silence
        self._began = self._told = clock.now()

    @property
    def seconds(self) -> float:
        return self._clock.now() - self._began

    def alive(self) -> None:
        """Something moved; a line if the last one was long ago."""
        self._limit.reschedule(asyncio.get_running_loop().time() + self._silence)
        if self._clock.now() - self._told >= _EVERY:
            self._told = self._clock.now()
            self._log(f"{self._what}: {megabytes(self.done)} of {megabytes(self.total)} after {self.seconds:.0f} s")


@asynccontextmanager
async def transfer(what: str, log: Log, clock: Clock, silence: float = SILENCE) -> AsyncIterator[Transfer]:
    """Raises:
    TargetError: `engine_silent`, when nothing has moved for minutes.
    """
    try:
        async with asyncio.timeout(silence) as limit:
            yield Transfer(what, log, clock, limit, silence)
    except TimeoutError as error:
        raise TargetError(
            f"{what}: nothing has moved for {silence:.0f} s",
            "look into the log of the Docker Engine; it is tried again",
            code="engine_silent",
            retryable=True,
        ) from error


def megabytes(count: int) -> str:
    """`12.3 MB`, `4.1 kB`"""
    return f"{count / 1e6:,.1f} MB" if count >= 100_000 else f"{count / 1e3:,.1f} kB"
