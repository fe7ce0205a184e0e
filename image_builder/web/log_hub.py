"""The logs of services that somebody follows: one stream from the manager for each, for any number of pages."""

from __future__ import annotations

import asyncio
import secrets
from collections import deque
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, field
from itertools import islice

from image_builder.clock import Clock
from image_builder.web.languages import Language
from image_builder.web.manager_client import ManagerClient
from image_builder.web.problems import PageProblem

KEPT = 1000
"""Lines that are remembered of each log; a page begins with them."""
_TAIL = 500
_AGAIN_AFTER = 2.0
_AT_ONCE = 500


@dataclass(frozen=True, slots=True)
class Lines:
    """begins: what was shown before is of another stream, and goes. problem: why nothing comes."""

    lines: tuple[str, ...] = ()
    begins: bool = False
    problem: str = ""


@dataclass
class _Log:
    lines: deque[str] = field(default_factory=lambda: deque(maxlen=KEPT))
    count: int = 0
    """Lines that came since it began."""
    epoch: str = ""
    problem: str = ""
    news: asyncio.Event = field(default_factory=asyncio.Event)
    readers: int = 0
    reading: asyncio.Task[None] | None = None

    def take(self, line: str, epoch: str) -> None:
        if epoch != self.epoch:  # the same lines come again: what was there goes
            self.lines.clear()
            self.count, self.epoch, self.problem = 0, epoch, ""
        self.lines.append(line)
        self.count += 1
        self.tell()

    def tell(self) -> None:
        news, self.news = self.news, asyncio.Event()
        news.set()


class LogHub:
    def __init__(self, manager: ManagerClient, language: Language, clock: Clock) -> None:
        self._manager = manager
        self._language: Language = language
        self._clock = clock
        self._logs: dict[str, _Log] = {}

    async def follow(self, key: str) -> AsyncGenerator[Lines, None]:
        """The last lines, then what comes, for ever."""
        log = self._logs.setdefault(key, _Log())
        log.readers += 1
        log.reading = log.reading or asyncio.create_task(self._read_for_ever(key, log), name=f"log of {key}")
        try:
            async with aclosing(_as_read(log)) as found:
                async for some in found:
                    yield some
        finally:
            log.readers -= 1
            if not log.readers:
                log.reading.cancel()
                del self._logs[key]

    async def _read_for_ever(self, key: str, log: _Log) -> None:
        while True:
            try:
                async with aclosing(self._manager.log(self._language, key, _TAIL)) as lines:
                    epoch = secrets.token_hex(4)
                    async for line in lines:
                        log.take(line, epoch)
            except PageProblem as error:
                log.problem = error.problem.cause
            log.tell()
            await self._clock.sleep(_AGAIN_AFTER)


async def _as_read(log: _Log) -> AsyncGenerator[Lines, None]:
    epoch, read = "", 0
    problem = ""
    while True:
        news = log.news
        if epoch != log.epoch:
            epoch, read = log.epoch, 0
            yield Lines(begins=True)
        elif read < log.count:
            new = min(log.count - read, len(log.lines))
            first = len(log.lines) - new
            some = tuple(islice(log.lines, first, first + _AT_ONCE))
            read = log.count - new + len(some)
            yield Lines(some)
        elif problem != log.problem:
            problem = log.problem
            yield Lines(problem=problem)
        else:
            await news.wait()
