"""What the rest of the manager asks of the store. Implemented once, in `sql.py`, over SQLite and PostgreSQL."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol

from cloud_manager.deployment import Deployment, Event, Key
from cloud_manager.deployment_spec import LoadedSpec
from cloud_manager.revisions import Revision
from image_builder.contract import Problem


@dataclass(frozen=True, slots=True)
class NewEvent:
    """An event about to be written; the store gives it its sequence."""

    kind: str
    message: str
    problem: Problem | None = None


class Store(Protocol):
    """Every method is one transaction. A database that does not answer raises `Unavailable`."""

    async def want_present(self, key: Key, loaded: LoadedSpec, *, now: float) -> Deployment:
        """`/start`: creates the row or raises its generation; due now. Writes the `start` event and the notes.

        The phase becomes `started`, except that a project which wants the same digest already and is on its way or
        running keeps its phase, so that a repeated `/start` shows no blip while the files are compared.
        """
        ...

    async def want_again(self, key: Key, revision: Revision, *, now: float) -> Deployment | None:
        """A rollback: raises the generation as `/start` does, for this revision as it was; due now, event `rollback`.

        The phase becomes `started`, except that a project which is on its way to this very revision keeps its phase.
        None for an unknown project.
        """
        ...

    async def want_absent(self, key: Key, *, now: float) -> Deployment | None:
        """`/stop`: raises the generation, phase `stopping`, due now, event `stop`. Already `stopped` or `stopping`:
        nothing changes. None for an unknown project."""
        ...

    async def get(self, key: Key) -> Deployment | None: ...

    async def page(self, *, after: Key | None = None, limit: int = 100) -> list[Deployment]:
        """Deployments in the order of their keys."""
        ...

    async def changed_since(self, time: float) -> list[Deployment]:
        """Rows with `updated` >= time, for the memory that answers status requests; the latest last.

        With several managers a row may become visible after one with a later `updated`, and their clocks differ: who
        follows the changes asks again from some seconds (more than the clocks differ) before the latest row seen.
        """
        ...

    async def due(self, now: float, limit: int) -> list[Key]:
        """Keys of rows with due <= now, the longest overdue first."""
        ...

    def own(self, key: Key) -> AbstractAsyncContextManager[Deployment | None]:
        """Hold the project while in the block: the row with a fresh token, or None if another manager holds it.

        Ownership ends with the block, and with the process or its connection, whichever ends first. None also if
        another block of this very process holds the project; nobody waits.
        """
        ...

    async def save(
        self, deployment: Deployment, events: Sequence[NewEvent] = (), *, now: float, serving: bool = False
    ) -> Deployment:
        """Write phase, facts, due and tries of an owned row, fenced by its token.

        serving: the revision in its facts was seen to answer: it is remembered, and the one before it has ended. A row
        that is `stopped` ends the one that served.

        If `generation` was raised meanwhile, facts are written, while the phase and due of the newer wish stay.
        Returns the row as it now is.

        Raises:
            LostOwnership: the token is no longer the row's, or the block of `own` that gave it has ended.
        """
        ...

    async def add_events(self, key: Key, generation: int, events: Sequence[NewEvent], *, now: float) -> None: ...

    async def events(self, key: Key | None = None, *, after: int = 0, limit: int = 1000) -> list[Event]:
        """Events with sequence > after, oldest first; of one project or, with None, of all.

        The newest 1,000 of a project are kept. Who follows one project by the last sequence seen misses nothing; over
        all projects, with several managers, an event may become visible after one with a higher sequence.
        """
        ...

    async def revisions(self, key: Key) -> list[Revision]:
        """Those that ran well, the newest first; `revisions.KEPT` of them are kept."""
        ...

    async def last_events(self, keys: Sequence[Key]) -> dict[Key, Event]:
        """The newest event of each of at most 500 projects, of those that have one."""
        ...

    async def aclose(self) -> None: ...
