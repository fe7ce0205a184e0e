"""Every project as the manager last told it: one stream from the manager for any number of pages."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Iterator
from contextlib import aclosing, contextmanager, suppress
from dataclasses import dataclass

from image_builder.clock import Clock
from image_builder.web.languages import Language
from image_builder.web.manager_client import ManagerClient
from image_builder.web.manager_models import Deployment, Trouble
from image_builder.web.problems import ManagerAway, PageProblem

log = logging.getLogger(__name__)

LINGER = 600.0
"""Seconds for which it goes on after the last page has left: the next one opens at once."""
_AGAIN_AFTER = 1.0
_PERIOD = 0.3
"""Seconds over which changes are gathered: all pages hear of them at once, so that one rendering serves them all."""


@dataclass(frozen=True, slots=True)
class Known:
    """A project, and the version of the feed that brought it."""

    deployment: Deployment
    version: int


class DeploymentFeed:
    """Of one language. It reads while a page is open, or was until a while ago."""

    def __init__(self, manager: ManagerClient, language: Language, clock: Clock, linger: float = LINGER) -> None:
        self._manager = manager
        self._language: Language = language
        self._clock = clock
        self._linger = linger
        self._known: dict[str, Known] = {}
        """By key; what changed last is last."""
        self._news = asyncio.Event()
        self._publishing: asyncio.TimerHandle | None = None
        self._whole = asyncio.Event()
        self._reading: asyncio.Task[None] | None = None
        self._users = 0
        self._end: asyncio.TimerHandle | None = None
        self.epoch = secrets.token_hex(4)
        """Versions of another epoch, from before a restart, mean nothing."""
        self.version = 0
        self.problem: Trouble | None = None
        """Why the manager cannot be heard now."""

    @property
    def is_whole(self) -> bool:
        """Whether every project has been read."""
        return self._whole.is_set()

    @property
    def deployments(self) -> list[Deployment]:
        return [known.deployment for known in self._known.values()]

    def get(self, key: str) -> Deployment | None:
        known = self._known.get(key)
        return known.deployment if known else None

    @contextmanager
    def used(self) -> Iterator[None]:
        """Held by each page that is made or open."""
        self._users += 1
        if self._end:
            self._end.cancel()
            self._end = None
        if self._reading is None or self._reading.done():
            self._reading = asyncio.create_task(self._read_for_ever(), name=f"deployments {self._language}")
        try:
            yield
        finally:
            self._users -= 1
            if not self._users:
                self._end = asyncio.get_running_loop().call_later(self._linger, self._reading.cancel)

    async def read(self, patience: float) -> None:
        """Until every project has been read, or the manager is known to be away; at most `patience` seconds."""
        with suppress(TimeoutError):
            async with asyncio.timeout(patience):
                while not self.is_whole and self.problem is None:
                    await self.wait(self.version)

    async def wait(self, version: int) -> None:
        """Until something has changed since `version`."""
        while self.version <= version:
            await self._news.wait()

    def changed_since(self, version: int) -> list[Deployment]:
        """What changed last comes first."""
        found = []
        for known in reversed(self._known.values()):
            if known.version <= version:
                break
            found.append(known.deployment)
        return found

    async def aclose(self) -> None:
        for timer in (self._end, self._publishing):
            if timer:
                timer.cancel()
        if self._reading:
            self._reading.cancel()
            await asyncio.wait([self._reading])

    async def _read_for_ever(self) -> None:
        while True:
            try:
                await self._follow()
            except PageProblem as error:
                problem = error.said(self._language) if isinstance(error, ManagerAway) else error.problem
                self._set_problem(Trouble(**problem.model_dump()))
            except Exception:  # the pages go on with what is known, and say that it may be old
                log.exception("the feed of all deployments failed; it begins anew")
            await self._clock.sleep(_AGAIN_AFTER)

    async def _follow(self) -> None:
        async with aclosing(self._manager.changes(self._language)) as changes:
            async for change in changes:
                if change is None:  # from here on nothing is missed
                    await self._read_all()
                else:
                    self.take(change)

    async def _read_all(self) -> None:
        seen: set[str] = set()
        after = ""
        while True:
            page = await self._manager.deployments(self._language, after)
            for deployment in page.items:
                seen.add(deployment.key)
                self.take(deployment)
            if page.next is None:
                break
            after = page.next
        for key in self._known.keys() - seen:
            del self._known[key]
        self._whole.set()
        self._set_problem(None)

    def take(self, deployment: Deployment) -> None:
        """A healthy project is looked at, and written, every few minutes: only what would be shown anew is news."""
        before = self._known.get(deployment.key)
        if before and before.deployment.shown == deployment.shown:
            return
        if before and before.deployment.updated > deployment.updated:
            return
        self._known.pop(deployment.key, None)
        self._known[deployment.key] = Known(deployment, self.version + 1)
        self._tell()

    def _set_problem(self, problem: Trouble | None) -> None:
        if problem != self.problem or problem is None:
            self.problem = problem
            self._tell()

    def _tell(self) -> None:
        if self._publishing is None:
            self._publishing = asyncio.get_running_loop().call_later(_PERIOD, self._publish)

    def _publish(self) -> None:
        self._publishing = None
        self.version += 1
        news, self._news = self._news, asyncio.Event()
        news.set()
