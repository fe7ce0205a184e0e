"""`kill -9` at a chosen call: a part of the world whose n-th call takes the manager's process with it."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Literal

from cloud_manager.deployment import Deployment, Key, Phase
from tests.cloud_manager.stage import KEY, Stage

When = Literal["before", "amid", "after"]


class Killed(BaseException):
    """The process is dead; nothing of it does anything any more."""


@dataclass
class Fuse:
    """Counts the calls of all wrapped parts; at number `at` the process dies before, amid or after its effect."""

    at: int
    when: When
    error: type[BaseException] = Killed
    calls: int = 0
    blown: bool = False

    async def burn(self, call: Callable[[], Awaitable[Any]]) -> Any:
        if self.blown:
            raise self.error
        self.calls += 1
        if self.calls - 1 != self.at:
            return await call()
        self.blown = True
        if self.when == "amid":
            await _broken_off(call)
        elif self.when == "after":
            await call()
        raise self.error


async def _broken_off(call: Callable[[], Awaitable[Any]]) -> None:
    """Up to its first await, no further."""
    task = asyncio.ensure_future(call())
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


class Mortal:
    """Wraps a store, a builder or a target."""

    def __init__(self, part: Any, fuse: Fuse) -> None:
        self._part = part
        self._fuse = fuse

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(self._part, name)
        if not inspect.iscoroutinefunction(attribute):
            return attribute

        async def call(*args: Any, **options: Any) -> Any:
            return await self._fuse.burn(lambda: attribute(*args, **options))

        return call

    @asynccontextmanager
    async def own(self, key: Key) -> AsyncIterator[Deployment | None]:
        """Ownership ends with the block, however it ends: the lock of a dead process is free."""
        async with self._part.own(key) as row:
            await self._fuse.burn(_nothing)
            yield row


async def _nothing() -> None:
    pass


class MortalStage(Stage):
    """Goes on after a death with a new controller over the same store and the same world."""

    def __init__(self, fuse: Fuse) -> None:
        self.fuse = fuse
        self.deaths = 0
        super().__init__(wrap=lambda part: Mortal(part, self.fuse))

    async def step(self, key: Key = KEY) -> Deployment:
        try:
            return await super().step(key)
        except (Killed, asyncio.CancelledError):
            self.deaths += 1
            self.fuse = Fuse(at=-1, when="before")
            self.restart()
            return self.row(key)

    async def steps(self, count: int) -> None:
        for _ in range(count):
            await self.step()

    def matches_wish(self, *, running: bool) -> bool:
        """Exactly one service, or none; no build for nobody."""
        row = self.row()
        if not running:
            return row.phase is Phase.STOPPED and self.nothing_left()
        one = self.serving() + self.serving("other") == 1
        revision = next(world.running[KEY][0].wanted.revision for world in self.worlds.values() if self._has(world))
        return row.phase is Phase.RUNNING and one and revision == row.facts.revision and not self.shop.in_flight()

    def _has(self, world: Any) -> bool:
        return bool(world.running.get(KEY))
