"""Who may work on a project: one block of one manager at a time.

Taking a project raises the token in its row, so that whatever an earlier owner still writes is refused (fencing:
https://martin.kleppmann.com/2016/02/08/how-to-do-distributed-locking.html).
"""

from __future__ import annotations

import asyncio
from typing import Any, Protocol

from sqlalchemy import RowMapping, text, update
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from cloud_manager.deployment import Key
from cloud_manager.store.tables import deployments

_LOCK_NAME = "cloud-deploy:deployment:{key}"


class Ownership(Protocol):
    """Database errors are those of the driver; the store translates them."""

    async def take(self, key: Key) -> RowMapping | None:
        """The row with its new token; None if the project is held by another, or is unknown."""
        ...

    async def holds(self, key: Key, token: int) -> bool:
        """Whether what `take` gave is still ours, as far as can be known without writing."""
        ...

    async def drop(self, key: Key) -> None: ...


async def _raised_row(connection: AsyncConnection, key: Key) -> RowMapping | None:
    row = deployments.c
    mine = (row.user_id == key.user_id) & (row.project_id == key.project_id)
    raised = update(deployments).where(mine).values(token=row.token + 1).returning(deployments)
    found: RowMapping | None = (await connection.execute(raised)).mappings().one_or_none()
    return found


class FileOwnership:
    """With SQLite: the lock on the state folder keeps other processes out, so a set keeps the blocks apart."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        self._tokens: dict[Key, int] = {}

    async def take(self, key: Key) -> RowMapping | None:
        if key in self._tokens:
            return None
        self._tokens[key] = -1
        row: RowMapping | None = None
        try:
            async with self._engine.begin() as connection:
                row = await _raised_row(connection, key)
        finally:
            if row is None:
                del self._tokens[key]
        if row is not None:
            self._tokens[key] = row["token"]
        return row

    async def holds(self, key: Key, token: int) -> bool:
        return self._tokens.get(key) == token

    async def drop(self, key: Key) -> None:
        del self._tokens[key]


class AdvisoryOwnership:
    """With PostgreSQL: session-level advisory locks, all on one connection that does nothing else.

    They end with the connection, so a dead manager's projects are free at once. If the connection breaks, everything
    owned through it is lost, and the next call makes a new one.
    https://www.postgresql.org/docs/current/explicit-locking.html#ADVISORY-LOCKS
    """

    def __init__(self, engine: AsyncEngine) -> None:
        """`engine` must keep no connections (NullPool): closing ours must end its locks."""
        self._engine = engine
        self._connection: AsyncConnection | None = None
        self._turn = asyncio.Lock()  # a connection carries one statement at a time
        self._inside: set[Key] = set()  # blocks of this process, those that lost their lock included
        self._tokens: dict[Key, int] = {}  # what is owned on the present connection

    async def take(self, key: Key) -> RowMapping | None:
        # The server would grant its own session the same lock twice.
        if key in self._inside:
            return None
        self._inside.add(key)
        row: RowMapping | None = None
        try:
            async with self._turn:
                row = await self._lock_and_raise(key)
        finally:
            if row is None:
                self._inside.discard(key)
        return row

    async def holds(self, key: Key, token: int) -> bool:
        async with self._turn:
            if self._tokens.get(key) == token:
                await self._still_connected()
            return self._tokens.get(key) == token

    async def drop(self, key: Key) -> None:
        try:
            async with self._turn:
                if self._tokens.pop(key, None) is not None:
                    await self._unlock(key)
        finally:
            self._inside.discard(key)

    async def aclose(self) -> None:
        async with self._turn:
            await self._disconnect()

    async def _lock_and_raise(self, key: Key) -> RowMapping | None:
        # Token and lock go through one connection: if it broke between the two, the token is not raised.
        await self._still_connected()  # else a connection that broke while idle would fail this step
        try:
            connection = await self._connected()
            if not await self._ask(connection, "pg_try_advisory_lock", key):
                return None
            row = await _raised_row(connection, key)
        except BaseException:
            # Not known whether the lock was granted: without the connection it is surely free.
            await self._disconnect()
            raise
        if row is None:
            await self._unlock(key)
        else:
            self._tokens[key] = row["token"]
        return row

    async def _unlock(self, key: Key) -> None:
        try:
            await self._ask(await self._connected(), "pg_advisory_unlock", key)
        except DBAPIError:
            await self._disconnect()  # the lock ends with the connection, which is all that was asked for

    async def _still_connected(self) -> None:
        try:
            if self._connection is not None:
                await self._connection.execute(text("SELECT 1"))
        except DBAPIError:
            await self._disconnect()

    async def _ask(self, connection: AsyncConnection, function: str, key: Key) -> Any:
        statement = text(f"SELECT {function}(hashtextextended(:name, 0))")
        return await connection.scalar(statement, {"name": _LOCK_NAME.format(key=key)})

    async def _connected(self) -> AsyncConnection:
        if self._connection is None:
            connection = self._connection = await self._engine.connect()
            await connection.execution_options(isolation_level="AUTOCOMMIT")
            # So that the server, too, notices within seconds that this machine has vanished without a word.
            seconds = {"tcp_keepalives_idle": 5, "tcp_keepalives_interval": 2, "tcp_keepalives_count": 3}
            for name, value in seconds.items():
                await connection.execute(
                    text("SELECT set_config(:name, :value, false)"), {"name": name, "value": str(value)}
                )
        return self._connection

    async def _disconnect(self) -> None:
        self._tokens.clear()
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.invalidate()
            await connection.close()
