"""The loop around `reconcile.py`: which project is looked at when, by how many at a time, and what is broken off."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Awaitable, Callable
from pathlib import Path

from cloud_manager.board import Board
from cloud_manager.builder import Builder
from cloud_manager.claim import Desk
from cloud_manager.clock import Clock
from cloud_manager.deployment import Deployment, Key
from cloud_manager.errors import DeployError
from cloud_manager.reconcile import Reconciler, Targets
from cloud_manager.request_log import REQUEST_ID, about
from cloud_manager.store.protocol import Store
from cloud_manager.watch import Unwatched, Watch
from image_builder.contract import BuildStatus

log = logging.getLogger(__name__)

_LONGEST_PAUSE = 0.5
"""Seconds. A project whose manager died is taken over within 2 s: this long to see that it is due, and a step."""
_SHORTEST_PAUSE = 0.01
_ELSEWHERE = 0.5
"""Seconds until a project that another manager holds is asked for again."""
_AFTER_OUTAGE = 1.0
_AWAITED = 5.0
"""Seconds. What is due within this time is remembered here, so that it is looked at on time."""
_STEPS_AT_ONCE = 50
_REFRESH = 0.4
"""Seconds between looks at what other managers wrote, however busy the loop is."""
_OVERLAP = 5.0
"""Seconds. A row that another manager writes becomes visible a little after its `updated`; clocks differ a little."""
_PAGE = 500


class Controller:
    """Makes the world match the store. One per process; several processes share one store."""

    def __init__(  # noqa: PLR0913 - the process is put together here
        self,
        store: Store,
        board: Board,
        builder: Builder,
        targets: Targets,
        clock: Clock,
        *,
        shared_root: Path,
        resync_seconds: float,
        workers: int = 16,
        poll_seconds: float = 0.5,
        watch: Watch | None = None,
    ) -> None:
        self._store = store
        self._board = board
        self._clock = clock
        self._workers = workers
        desk = Desk(store, board, clock, resync_seconds, poll_seconds, watch or Unwatched())
        self._reconciler = Reconciler(desk, builder, targets, shared_root)
        self._news = asyncio.Event()
        self._woken: dict[Key, None] = {}
        """In the order of the calls."""
        self._caused_by: dict[Key, str] = {}
        """The id of the request that brought the newest wish, until the world matches it. Lost with the process."""
        self._running: dict[Key, asyncio.Task[None]] = {}
        self._soon: dict[Key, float] = {}
        """When to look again, of projects that are on their way."""
        self._not_before: dict[Key, float] = {}
        """Projects that are due, but held by another manager or not to be had from the database."""
        self._seen_until = 0.0

    def build_status(self, key: Key) -> BuildStatus | None:
        """The progress of the project's build as last seen; None when none is under way."""
        return self._reconciler.build_status(key)

    def wake(self, key: Key) -> None:
        """A wish has changed: look now. A step that serves an older wish is cancelled and awaited first."""
        self._woken[key] = None
        self._caused_by[key] = REQUEST_ID.get()
        self._news.set()

    async def reconcile(self, key: Key) -> None:
        """One claim and one step, or nothing if another manager has the project. The loop calls it; tests may too.

        Raises:
            Unavailable: the database does not answer.
        """
        await self._reconciler.reconcile(key)

    async def run(self) -> None:
        """For ever. Cancelled: cancels the steps in flight and awaits them; the rows tell where to go on."""
        try:
            while not await self._survived(self._fill_board):
                pass
            while True:
                await self._survived(self._round)
                await self._pause()
        finally:
            await self._break_off()

    async def _survived(self, work: Callable[[], Awaitable[None]]) -> bool:
        """False if it failed; the loop goes on after a moment: the database may be away."""
        try:
            await work()
        except DeployError as error:
            log.warning("the store does not answer, trying again: %s", error)
        except Exception:  # The loop serves all projects and must outlive any defect.
            log.exception("an unexpected error in the controller's loop")
        else:
            return True
        await self._clock.sleep(_AFTER_OUTAGE)
        return False

    async def _fill_board(self) -> None:
        self._seen_until = self._clock.now()
        await fill_board(self._board, self._store)

    async def _round(self) -> None:
        await self._refresh()
        await self._look_at_woken()
        for key in await self._next_keys():
            if len(self._running) >= self._workers:
                return
            self._begin(key)

    async def _refresh(self) -> None:
        """Take over what other managers wrote: status words, and newer wishes for what is in flight here."""
        now = self._clock.now()
        if now < self._seen_until + _REFRESH:
            return
        changed = await self._store.changed_since(self._seen_until - _OVERLAP)
        self._seen_until = now
        self._board.put(changed)
        for row in changed:
            self._break_off_older(row)

    async def _look_at_woken(self) -> None:
        for key in [key for key in self._woken if key in self._running]:
            row = await self._store.get(key)
            if row is not None:
                self._break_off_older(row)

    def _break_off_older(self, row: Deployment) -> None:
        """Cancel a step of an older wish. Its project is not begun again before it has ended."""
        task, serving = self._running.get(row.key), self._reconciler.generation(row.key)
        if task is not None and serving is not None and serving < row.generation:
            task.cancel()

    async def _next_keys(self) -> list[Key]:
        """Whom to look at now: those with a new wish, those awaited, those that are due."""
        now = self._clock.now()
        self._not_before = {key: time for key, time in self._not_before.items() if time > now}
        limit = self._workers + len(self._running) + len(self._not_before)
        awaited = [key for key, time in self._soon.items() if time <= now]
        due = await self._store.due(now, limit)
        waiting = [key for key in [*awaited, *due] if key not in self._not_before]
        return [key for key in dict.fromkeys([*self._woken, *waiting]) if key not in self._running]

    def _begin(self, key: Key) -> None:
        self._woken.pop(key, None)
        self._soon.pop(key, None)
        cause = about(key, self._caused_by.get(key, ""))
        task = asyncio.create_task(self._work(key), name=f"reconcile {key}", context=cause)
        self._running[key] = task
        task.add_done_callback(lambda _: self._ended(key))

    def _ended(self, key: Key) -> None:
        self._running.pop(key, None)
        self._news.set()

    async def _work(self, key: Key) -> None:
        """Step after step while there is something to do at once."""
        row: Deployment | None = None
        for _ in range(_STEPS_AT_ONCE):
            try:
                row = await self._reconciler.reconcile(key)
            except DeployError as error:
                log.warning("%s: the store does not answer, trying again: %s", key, error)
                self._not_before[key] = self._clock.now() + _AFTER_OUTAGE
                return
            if row is None:
                self._not_before[key] = self._clock.now() + _ELSEWHERE
                return
            if row.due > self._clock.now():
                break
        if row is not None and row.phase.at_rest and key not in self._woken:
            self._caused_by.pop(key, None)
        if row is not None and row.due < self._clock.now() + _AWAITED:
            self._soon[key] = row.due

    async def _pause(self) -> None:
        """Until there is news, or something awaited is due, or it is time to ask the store."""
        has_room = len(self._running) < self._workers
        first = min(self._soon.values(), default=math.inf) if has_room else math.inf
        delay = min(max(first - self._clock.now(), _SHORTEST_PAUSE), _LONGEST_PAUSE)
        waits = {asyncio.ensure_future(self._clock.sleep(delay)), asyncio.ensure_future(self._news.wait())}
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
        self._news.clear()

    async def _break_off(self) -> None:
        tasks = list(self._running.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def fill_board(board: Board, store: Store) -> None:
    """Let the board know every project, a page at a time: all rows at once would be held in memory together."""
    page = await store.page(limit=_PAGE)
    while page:
        board.put(page)
        page = await store.page(after=page[-1].key, limit=_PAGE)
