"""The store over SQLite and PostgreSQL: one code path in SQL that both understand."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from time import perf_counter
from typing import Any, TypeVar

from sqlalchemy import RowMapping, Select, insert, select, tuple_
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from cloud_manager.deployment import Deployment, Event, Key, Phase
from cloud_manager.deployment_spec import LoadedSpec
from cloud_manager.errors import DeployError, LostOwnership, Unavailable
from cloud_manager.revisions import Revision
from cloud_manager.store.faults import translated
from cloud_manager.store.ownership import Ownership
from cloud_manager.store.protocol import NewEvent
from cloud_manager.store.statements import (
    absent,
    again,
    ended,
    event_rows,
    last_events_of,
    of_key,
    old_events,
    old_revisions,
    present,
    progress,
    remembered,
    revisions_of,
    row_of,
)
from cloud_manager.store.tables import deployment_of, deployments, event_of, events, revision_of_row
from cloud_manager.store.wishes import rollback_events, start_events, stop_events

T = TypeVar("T")


Told = Callable[[str, str, float], None]
"""Hears of `read`, `write`, `own` or `held`; `ok` or the code of the error; seconds."""


def untold(doing: str, result: str, seconds: float) -> None:
    """Nobody listens."""


@dataclass(frozen=True, slots=True)
class Engines:
    """For PostgreSQL the same one twice."""

    writer: AsyncEngine
    reader: AsyncEngine


class SqlStore:
    """See the protocol for the methods. A call that is cancelled still ends its transaction before it returns."""

    def __init__(
        self,
        engines: Engines,
        ownership: Ownership,
        place: str,
        resources: AsyncExitStack,
        told: Told = untold,
    ) -> None:
        """Made by `open_store`.

        Args:
            place: names the database in errors.
            resources: closed with the store.
            told: hears how long each use took.
        """
        self._told = told
        self._engines = engines
        self._ownership = ownership
        self._place = place
        self._resources = resources
        self._closed = False

    async def want_present(self, key: Key, loaded: LoadedSpec, *, now: float) -> Deployment:
        async def work(connection: AsyncConnection) -> Deployment:
            statement = present(connection.dialect.name, key, loaded, now)
            row = (await connection.execute(statement)).mappings().one()
            await _append(connection, key, row["generation"], start_events(loaded), now)
            return deployment_of(row)

        return await self._write(work)

    async def want_again(self, key: Key, revision: Revision, *, now: float) -> Deployment | None:
        async def work(connection: AsyncConnection) -> Deployment | None:
            row = (await connection.execute(again(key, revision, now))).mappings().one_or_none()
            if row is None:
                return None
            await _append(connection, key, row["generation"], rollback_events(revision), now)
            return deployment_of(row)

        return await self._write(work)

    async def want_absent(self, key: Key, *, now: float) -> Deployment | None:
        async def work(connection: AsyncConnection) -> Deployment | None:
            found = (await connection.execute(absent(key, now))).mappings().one_or_none()
            if found is None:  # nothing to change, or nothing there
                found = (await connection.execute(row_of(key))).mappings().one_or_none()
                return deployment_of(found) if found else None
            await _append(connection, key, found["generation"], stop_events(), now)
            return deployment_of(found)

        return await self._write(work)

    async def get(self, key: Key) -> Deployment | None:
        rows = await self._read(row_of(key))
        return deployment_of(rows[0]) if rows else None

    async def page(self, *, after: Key | None = None, limit: int = 100) -> list[Deployment]:
        columns = tuple_(deployments.c.user_id, deployments.c.project_id)
        query = select(deployments).order_by(deployments.c.user_id, deployments.c.project_id).limit(limit)
        if after is not None:
            query = query.where(columns > tuple_(after.user_id, after.project_id))
        return [deployment_of(row) for row in await self._read(query)]

    async def changed_since(self, time: float) -> list[Deployment]:
        updated = deployments.c.updated
        query = select(deployments).where(updated >= time).order_by(updated)
        return [deployment_of(row) for row in await self._read(query)]

    async def due(self, now: float, limit: int) -> list[Key]:
        columns = deployments.c
        query = select(columns.user_id, columns.project_id).where(columns.due <= now).order_by(columns.due).limit(limit)
        return [Key(row["user_id"], row["project_id"]) for row in await self._read(query)]

    @asynccontextmanager
    async def own(self, key: Key) -> AsyncIterator[Deployment | None]:
        row = await self._taken(key)
        if row is None:
            yield None
            return
        try:
            yield deployment_of(row)
        finally:
            await _to_the_end(self._ownership.drop(key))

    async def save(
        self, deployment: Deployment, events: Sequence[NewEvent] = (), *, now: float, serving: bool = False
    ) -> Deployment:
        async def work(connection: AsyncConnection) -> Deployment:
            row = (await connection.execute(progress(deployment, now))).mappings().one_or_none()
            if row is None:
                raise _lost(deployment.key)
            if serving:
                await _remember(connection, deployment, now)
            elif deployment.phase is Phase.STOPPED:
                await connection.execute(ended(deployment.key, now))
            await _append(connection, deployment.key, deployment.generation, events, now)
            return deployment_of(row)

        with self._speaking("held"):
            if not await _to_the_end(self._ownership.holds(deployment.key, deployment.token)):
                raise _lost(deployment.key)
        return await self._write(work)

    async def add_events(self, key: Key, generation: int, events: Sequence[NewEvent], *, now: float) -> None:
        async def work(connection: AsyncConnection) -> None:
            # The row's lock makes a project's events visible in the order of their sequence, also to a reader who
            # follows them while several managers write.
            await connection.execute(row_of(key).with_for_update())
            await _append(connection, key, generation, events, now)

        await self._write(work)

    async def events(self, key: Key | None = None, *, after: int = 0, limit: int = 1000) -> list[Event]:
        query = select(events).where(events.c.sequence > after).order_by(events.c.sequence).limit(limit)
        if key is not None:
            query = query.where(of_key(events, key))
        return [event_of(row) for row in await self._read(query)]

    async def last_events(self, keys: Sequence[Key]) -> dict[Key, Event]:
        return {event.key: event for event in map(event_of, await self._read(last_events_of(keys)))}

    async def revisions(self, key: Key) -> list[Revision]:
        return [revision_of_row(row) for row in await self._read(revisions_of(key))]

    async def aclose(self) -> None:
        self._closed = True
        await self._resources.aclose()

    @contextmanager
    def _speaking(self, doing: str) -> Iterator[None]:
        # The engines would quietly connect again, without the lock that was given back.
        if self._closed:
            raise Unavailable(f"{self._place} was closed by this manager", "start the manager again")
        began, result = perf_counter(), "cancelled"
        try:
            with translated(self._place):
                yield
            result = "ok"
        except DeployError as error:
            result = error.problem.code
            raise
        finally:
            self._told(doing, result, perf_counter() - began)

    async def _taken(self, key: Key) -> RowMapping | None:
        """Owned whole or not at all, also if cancelled on the way."""
        with self._speaking("own"):
            taking = asyncio.ensure_future(self._ownership.take(key))
            try:
                return await _to_the_end(taking)
            except asyncio.CancelledError:
                if not taking.cancelled() and not taking.exception() and taking.result() is not None:
                    await _to_the_end(self._ownership.drop(key))
                raise

    async def _read(self, query: Select[Any]) -> Sequence[RowMapping]:
        async def work() -> Sequence[RowMapping]:
            async with self._engines.reader.connect() as connection:
                rows: Sequence[RowMapping] = (await connection.execute(query)).mappings().all()
                return rows

        with self._speaking("read"):
            return await _to_the_end(work())

    async def _write(self, work: Callable[[AsyncConnection], Awaitable[T]]) -> T:
        async def transaction() -> T:
            async with self._engines.writer.begin() as connection:
                return await work(connection)

        with self._speaking("write"):
            return await _to_the_end(transaction())


async def _to_the_end(work: Coroutine[Any, Any, T] | asyncio.Future[T]) -> T:
    """Await work that must not stop half-way: cancelled, it is first awaited, then the cancellation goes on."""
    task = asyncio.ensure_future(work)
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        if not task.cancelled():
            task.exception()  # the caller no longer wants to know; read, so that asyncio does not complain
        raise cancelled
    return task.result()


def _lost(key: Key) -> LostOwnership:
    return LostOwnership(f"{key} is no longer owned by this step", "nothing to do: its new owner carries on")


async def _remember(connection: AsyncConnection, row: Deployment, now: float) -> None:
    await connection.execute(ended(row.key, now, other_than=row.facts.revision))
    await connection.execute(remembered(connection.dialect.name, row, now))
    await connection.execute(old_revisions(row.key))


async def _append(connection: AsyncConnection, key: Key, generation: int, new: Sequence[NewEvent], now: float) -> None:
    if new:
        await connection.execute(insert(events), event_rows(key, generation, new, now))
        await connection.execute(old_events(key))
