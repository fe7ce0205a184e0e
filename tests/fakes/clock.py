"""A clock that a test turns by hand."""

from __future__ import annotations

import asyncio


class ManualClock:
    """Starts at 1,000,000 s. `sleep` returns when `advance` has moved the time far enough."""

    def __init__(self, time: float = 1_000_000.0) -> None:
        self._time = time
        self._sleepers: list[tuple[float, asyncio.Future[None]]] = []

    def now(self) -> float:
        return self._time

    async def sleep(self, seconds: float) -> None:
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._sleepers.append((self._time + seconds, future))
        await future

    def advance(self, seconds: float) -> None:
        self._time += seconds
        for time, future in self._sleepers:
            if time <= self._time and not future.done():
                future.set_result(None)
        self._sleepers = [(time, future) for time, future in self._sleepers if not future.done()]
