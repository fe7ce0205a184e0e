"""What changes, over all projects, for who shows them all: at the price of one query a period, whatever there is."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass

from cloud_manager.board import Board
from cloud_manager.clock import Clock
from cloud_manager.deployment import Deployment, Event, Key
from cloud_manager.store.protocol import Store

PERIOD = 0.5
"""Seconds between two batches."""
_AT_ONCE = 250
"""Projects whose last events are asked for with one query."""


@dataclass(frozen=True, slots=True)
class Change:
    row: Deployment
    last: Event | None


class ChangeFeed:
    """The board hears of every write, also of other managers; what it hears is passed on."""

    def __init__(self, board: Board, store: Store, clock: Clock, period: float = PERIOD) -> None:
        self._board = board
        self._store = store
        self._clock = clock
        self._period = period

    async def follow(self) -> AsyncGenerator[list[Change], None]:
        """An empty batch once it listens, then what changes, for ever. Of several changes of a project, the last."""
        heard: dict[Key, Deployment] = {}
        news = asyncio.Event()

        def hear(row: Deployment) -> None:
            heard[row.key] = row
            news.set()

        self._board.listeners.add(hear)
        try:
            yield []
            while True:
                await news.wait()
                news.clear()
                rows = list(heard.values())
                heard.clear()
                for first in range(0, len(rows), _AT_ONCE):
                    if changes := await self._with_events(rows[first : first + _AT_ONCE]):
                        yield changes
                await self._clock.sleep(self._period)
        finally:
            self._board.listeners.discard(hear)

    async def _with_events(self, rows: list[Deployment]) -> list[Change]:
        """Without rows that a newer wish has overtaken meanwhile: the board hears of theirs next."""
        last = await self._store.last_events([row.key for row in rows])
        changes = [Change(row, last.get(row.key)) for row in rows]
        return [each for each in changes if each.last is None or each.last.generation <= each.row.generation]
