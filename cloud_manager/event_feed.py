"""New lines of a project's history, for any number of watchers at the price of one query per project and period."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from cloud_manager.clock import Clock
from cloud_manager.deployment import Event, Key
from cloud_manager.store.protocol import Store

PERIOD = 0.5
"""Seconds between two looks at the store."""
_PAGE = 500


class EventFeed:
    """Polls the store, also for what other managers write. Watchers who have read equally far share one poll.

    It asks per project, not for all at once: only writes to one project are ordered, by its row. Over all projects a
    lower sequence may be committed after a higher one, and a cursor would step over it.
    """

    def __init__(self, store: Store, clock: Clock, period: float = PERIOD) -> None:
        self._store = store
        self._clock = clock
        self._period = period
        self._polls: dict[tuple[Key, int], asyncio.Task[list[Event]]] = {}
        self.waiting: dict[tuple[Key, int], int] = {}
        """How many wait, by what they have read."""

    async def follow(self, key: Key, *, after: int) -> AsyncIterator[Event]:
        """The events with sequence > after: those there are, then each new one, for ever."""
        while True:
            for event in await self.next(key, after=after):
                after = event.sequence
                yield event

    async def next(self, key: Key, *, after: int) -> list[Event]:
        """The next events, at least one; waits until there is one."""
        place = (key, after)
        poll = self._polls.get(place)
        if poll is None:
            poll = self._polls[place] = asyncio.create_task(self._poll(key, after), name=f"events {key}")
        self.waiting[place] = self.waiting.get(place, 0) + 1
        try:
            return await asyncio.shield(poll)
        finally:
            self._leave(place, poll)

    def _leave(self, place: tuple[Key, int], poll: asyncio.Task[list[Event]]) -> None:
        """The last watcher to leave ends the poll."""
        self.waiting[place] -= 1
        if not self.waiting[place]:
            del self.waiting[place], self._polls[place]
            poll.cancel()

    async def _poll(self, key: Key, after: int) -> list[Event]:
        while not (events := await self._store.events(key, after=after, limit=_PAGE)):
            await self._clock.sleep(self._period)
        return events
