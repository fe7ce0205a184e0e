"""The Store protocol over dictionaries, for tests of everything that uses a store.

It passes the same suite as the real one (`tests/cloud_manager/test_store.py`).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace

from cloud_manager.deployment import Deployment, Event, Facts, Key, Phase, Want, digest_of
from cloud_manager.deployment_spec import LoadedSpec
from cloud_manager.errors import DeployError, LostOwnership
from cloud_manager.revisions import KEPT, Revision, revision_in
from cloud_manager.store.protocol import NewEvent
from cloud_manager.store.wishes import (
    EVENTS_KEPT,
    GOING_AWAY,
    ON_ITS_WAY,
    TICK,
    rollback_events,
    start_events,
    stop_events,
)


@dataclass
class Memory:
    """What a database would hold: shared by all stores opened over it."""

    rows: dict[Key, Deployment] = field(default_factory=dict)
    events: list[Event] = field(default_factory=list)
    sequence: int = 0
    revisions: dict[Key, list[Revision]] = field(default_factory=dict)
    """The newest first."""
    owned: set[Key] = field(default_factory=set)


class MemoryStore:
    """One manager's view of a `Memory`.

    Two managers: `first = MemoryStore(); second = MemoryStore(first.memory)`.
    failing: set it to an error, and every call raises it, as a database that went away does.
    """

    def __init__(self, memory: Memory | None = None) -> None:
        self.memory = memory or Memory()
        self.failing: DeployError | None = None
        self._tokens: dict[Key, int] = {}
        self._inside: set[Key] = set()

    async def want_present(self, key: Key, loaded: LoadedSpec, *, now: float) -> Deployment:
        self._check()
        old, digest = self.memory.rows.get(key), digest_of(loaded.spec)
        wish = {
            "want": Want.PRESENT,
            "spec": loaded.spec,
            "spec_digest": digest,
            "origins": dict(loaded.origins),
            "pinned": None,
        }
        if old is None:
            row = Deployment(key=key, generation=1, phase=Phase.STARTED, facts=Facts(), token=0, due=now, tries=0,
                             created=now, updated=now, **wish)  # type: ignore[arg-type]  # fmt: skip
        else:
            same = old.want is Want.PRESENT and old.spec_digest == digest and old.phase in ON_ITS_WAY
            row = self._raised(replace(old, phase=old.phase if same else Phase.STARTED, **wish), now)  # type: ignore[arg-type]
        self.memory.rows[key] = row
        self._append(key, row.generation, start_events(loaded), now)
        return row

    async def want_again(self, key: Key, revision: Revision, *, now: float) -> Deployment | None:
        self._check()
        old, pinned = self.memory.rows.get(key), revision.pinned()
        if old is None:
            return None
        same = old.want is Want.PRESENT and old.pinned == pinned and old.phase in ON_ITS_WAY
        phase = old.phase if same else Phase.STARTED
        wish = replace(old, want=Want.PRESENT, phase=phase, spec=revision.spec, spec_digest=revision.spec_digest,
                       origins=dict(revision.origins), pinned=pinned)  # fmt: skip
        row = self.memory.rows[key] = self._raised(wish, now)
        self._append(key, row.generation, rollback_events(revision), now)
        return row

    async def want_absent(self, key: Key, *, now: float) -> Deployment | None:
        self._check()
        old = self.memory.rows.get(key)
        if old is None or (old.want is Want.ABSENT and old.phase in GOING_AWAY):
            return old
        row = self._raised(replace(old, want=Want.ABSENT, phase=Phase.STOPPING), now)
        self.memory.rows[key] = row
        self._append(key, row.generation, stop_events(), now)
        return row

    async def get(self, key: Key) -> Deployment | None:
        self._check()
        return self.memory.rows.get(key)

    async def page(self, *, after: Key | None = None, limit: int = 100) -> list[Deployment]:
        self._check()
        rows = sorted(self.memory.rows.values(), key=lambda row: row.key)
        return [row for row in rows if after is None or row.key > after][:limit]

    async def changed_since(self, time: float) -> list[Deployment]:
        self._check()
        return sorted((row for row in self.memory.rows.values() if row.updated >= time), key=lambda row: row.updated)

    async def due(self, now: float, limit: int) -> list[Key]:
        self._check()
        rows = sorted((row for row in self.memory.rows.values() if row.due <= now), key=lambda row: row.due)
        return [row.key for row in rows[:limit]]

    @asynccontextmanager
    async def own(self, key: Key) -> AsyncIterator[Deployment | None]:
        self._check()
        if key in self.memory.owned | self._inside or key not in self.memory.rows:
            yield None
            return
        row = self.memory.rows[key] = replace(self.memory.rows[key], token=self.memory.rows[key].token + 1)
        self.memory.owned.add(key)
        self._inside.add(key)
        self._tokens[key] = row.token
        try:
            yield row
        finally:
            self._inside.discard(key)
            if self._tokens.pop(key, None) is not None:
                self.memory.owned.discard(key)

    def lose_everything(self) -> None:
        """The connection that holds this manager's locks breaks: others may take over, its own saves are void."""
        self.memory.owned.difference_update(self._tokens)
        self._tokens.clear()

    async def save(
        self, deployment: Deployment, events: Sequence[NewEvent] = (), *, now: float, serving: bool = False
    ) -> Deployment:
        self._check()
        key, old = deployment.key, self.memory.rows[deployment.key]
        if not deployment.token == old.token == self._tokens.get(key):
            raise LostOwnership(f"another manager owns {key} now", "nothing to do: it carries on there")
        row = replace(old, facts=deployment.facts, updated=max(now, old.updated + TICK))
        if deployment.generation == old.generation:
            row = replace(row, phase=deployment.phase, due=deployment.due, tries=deployment.tries)
        self.memory.rows[key] = row
        if serving:
            self._remember(key, revision_in(deployment, now))
        elif deployment.phase is Phase.STOPPED:
            self._end(key, now)
        self._append(key, deployment.generation, events, now)
        return row

    async def add_events(self, key: Key, generation: int, events: Sequence[NewEvent], *, now: float) -> None:
        self._check()
        self._append(key, generation, events, now)

    async def events(self, key: Key | None = None, *, after: int = 0, limit: int = 1000) -> list[Event]:
        self._check()
        rows = [event for event in self.memory.events if event.sequence > after and key in (None, event.key)]
        return rows[:limit]

    async def last_events(self, keys: Sequence[Key]) -> dict[Key, Event]:
        self._check()
        return {event.key: event for event in self.memory.events if event.key in set(keys)}

    async def revisions(self, key: Key) -> list[Revision]:
        self._check()
        return list(self.memory.revisions.get(key, []))

    async def aclose(self) -> None:
        self.lose_everything()

    def _remember(self, key: Key, new: Revision) -> None:
        old = next((one for one in self.memory.revisions.get(key, []) if one.revision == new.revision), new)
        since = old.since if old.until is None else new.since
        new = replace(new, first_running=old.first_running, since=since, image_uri=old.image_uri)
        self._end(key, new.since)
        known = self.memory.revisions[key]
        self.memory.revisions[key] = [new, *(one for one in known if one.revision != new.revision)][:KEPT]

    def _end(self, key: Key, now: float) -> None:
        known = self.memory.revisions.get(key, [])
        self.memory.revisions[key] = [replace(one, until=now) if one.until is None else one for one in known]

    def _check(self) -> None:
        if self.failing:
            raise self.failing

    def _raised(self, row: Deployment, now: float) -> Deployment:
        updated = max(now, row.updated + TICK)
        return replace(row, generation=row.generation + 1, due=now, tries=0, updated=updated)

    def _append(self, key: Key, generation: int, events: Sequence[NewEvent], now: float) -> None:
        for event in events:
            self.memory.sequence += 1
            self.memory.events.append(
                Event(self.memory.sequence, key, now, generation, event.kind, event.message, event.problem)
            )
        mine = [event.sequence for event in self.memory.events if event.key == key]
        if len(mine) > EVENTS_KEPT:
            first = mine[-EVENTS_KEPT]
            self.memory.events = [e for e in self.memory.events if e.key != key or e.sequence >= first]
