"""Opens the store that DATABASE_URL names: SQLite in the state folder, or PostgreSQL."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from sqlalchemy import URL, event, make_url
from sqlalchemy.exc import ArgumentError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import NullPool

from cloud_manager.clock import Clock
from cloud_manager.errors import DeployError, Unavailable
from cloud_manager.store.faults import translated
from cloud_manager.store.ownership import AdvisoryOwnership, FileOwnership
from cloud_manager.store.protocol import Store
from cloud_manager.store.schema import migrate
from cloud_manager.store.sql import Engines, SqlStore, Told, untold
from cloud_manager.store.state_lock import StateLock

_log = logging.getLogger(__name__)

_PATIENCE = (0.5, 1.0, 2.0, 4.0)
"""Seconds between tries to reach PostgreSQL, which is often started together with the manager."""

_POSTGRES = {
    "connect_timeout": 5,
    "client_encoding": "utf8",  # of a database made without a locale (SQL_ASCII), psycopg would give bytes for texts
    # libpq's: https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-PARAMKEYWORDS
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 10_000,
    # A manager that stands still inside a transaction (stopped, swapped out) must not hold up the others for ever.
    "options": "-c lock_timeout=10s -c idle_in_transaction_session_timeout=30s",
}


async def open_store(database_url: str, state_dir: Path, clock: Clock, *, told: Told = untold) -> Store:
    """The store, its tables made or upgraded.

    Args:
        database_url: `` (SQLite in `state_dir`), `sqlite:///path`, `postgresql://…` or `postgres://…`.
        clock: waits between tries to reach PostgreSQL, about 8 seconds in all.
        told: hears how long each use of the database took.

    Raises:
        Unavailable: the database does not answer, or the disk is full.
        DeployError: `state_dir_in_use`, `newer_database`, `bad_database_url`, `missing_driver`.
    """
    url = _parsed(database_url, state_dir)
    if url.drivername == "sqlite+aiosqlite":
        return await _open_sqlite(url, state_dir, told)
    return await _patiently(lambda: _open_postgres(url, told), clock)


def _parsed(database_url: str, state_dir: Path) -> URL:
    if not database_url:
        return URL.create("sqlite+aiosqlite", database=str(state_dir / "manager.db"))
    try:
        url = make_url(database_url)
    except ArgumentError as error:
        raise _bad_url("DATABASE_URL is not a database URL") from error
    name = url.drivername.partition("+")[0]
    if name == "sqlite" and url.database not in (None, "", ":memory:"):
        return url.set(drivername="sqlite+aiosqlite")
    if name in ("postgresql", "postgres"):
        return url.set(drivername="postgresql+psycopg")
    raise _bad_url(f"DATABASE_URL begins with {name}://, and that is neither a SQLite file nor PostgreSQL")


def _bad_url(cause: str) -> DeployError:
    fix = "write postgresql://user:password@host/database, sqlite:///path, or leave it empty for SQLite in STATE_DIR"
    return DeployError(cause, fix, code="bad_database_url")


async def _open_sqlite(url: URL, state_dir: Path, told: Told) -> Store:
    path, place = Path(str(url.database)), f"SQLite at {url.database}"
    async with AsyncExitStack() as undo:
        for lock in _lock_files(path, state_dir):
            undo.callback(_locked(lock).release)
        writer, reader = _sqlite_engine(url, writes=True), _sqlite_engine(url, writes=False)
        undo.push_async_callback(writer.dispose)
        undo.push_async_callback(reader.dispose)
        with translated(place):
            await migrate(writer)
        return SqlStore(Engines(writer, reader), FileOwnership(writer), place, undo.pop_all(), told)


def _lock_files(database: Path, state_dir: Path) -> list[Path]:
    """The state folder's, and the database's own if it lies elsewhere."""
    files = [state_dir / "manager.lock"]
    if database.resolve().parent != state_dir.resolve():
        files.append(database.with_name(database.name + ".lock"))
    return files


def _locked(path: Path) -> StateLock:
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        return StateLock(path)
    except OSError as error:
        fix = "make the folder writable for this user, or set STATE_DIR to another"
        raise Unavailable(f"{path} cannot be written: {error.strerror}", fix, retryable=False) from error


def _sqlite_engine(url: URL, *, writes: bool) -> AsyncEngine:
    """One writer, since SQLite has one at a time and waiting in line is fairer than its polling; a few readers."""
    engine = create_async_engine(url, pool_size=1 if writes else 4, max_overflow=0, connect_args={"timeout": 10})
    event.listen(engine.sync_engine, "connect", _prepare_sqlite)
    # A transaction that will write takes the write lock first; one that reads and then writes could fail half-way.
    begin = "BEGIN IMMEDIATE" if writes else "BEGIN"
    event.listen(engine.sync_engine, "begin", lambda connection: connection.exec_driver_sql(begin))
    return engine


def _prepare_sqlite(connection: Any, _record: object) -> None:
    connection.isolation_level = None  # we say BEGIN ourselves, before DDL too
    cursor = connection.cursor()
    # FULL with WAL: what was committed outlives a power cut. https://sqlite.org/pragma.html#pragma_synchronous
    # fullfsync: macOS needs it for the same promise; elsewhere it does nothing.
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "fullfsync=ON", "foreign_keys=ON"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


async def _open_postgres(url: URL, told: Told) -> Store:
    host = url.host or url.query.get("host") or "the local socket"
    place = f"PostgreSQL at {host}:{url.port or url.query.get('port') or 5432}/{url.database or ''}"
    async with AsyncExitStack() as undo:
        engine = _postgres_engine(url, "cloud-deploy", pool_size=5, max_overflow=5, pool_timeout=10, pool_pre_ping=True)
        undo.push_async_callback(engine.dispose)
        with translated(place):
            await migrate(engine)
        locks = AdvisoryOwnership(_postgres_engine(url, "cloud-deploy-owner", poolclass=NullPool))
        undo.push_async_callback(locks.aclose)
        return SqlStore(Engines(engine, engine), locks, place, undo.pop_all(), told)


def _postgres_engine(url: URL, application_name: str, **options: Any) -> AsyncEngine:
    ours = {**_POSTGRES, "application_name": application_name}
    given = {name: value for name, value in ours.items() if name not in url.query}
    try:
        return create_async_engine(url, connect_args=given, **options)
    except ModuleNotFoundError as error:
        fix = "pip install 'tango-cloud-deploy[postgres]'"
        raise DeployError(
            "DATABASE_URL names PostgreSQL, and psycopg is missing", fix, code="missing_driver"
        ) from error


async def _patiently(attempt: Callable[[], Awaitable[Store]], clock: Clock) -> Store:
    for seconds in _PATIENCE:
        try:
            return await attempt()
        except Unavailable as error:
            _log.warning("%s (trying again in %s s)", error, seconds)
            await clock.sleep(seconds)
    return await attempt()
