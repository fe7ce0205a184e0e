"""Brings a database to this release's schema when it is opened."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Connection, column, inspect, select, table, text
from sqlalchemy.ext.asyncio import AsyncEngine

from cloud_manager.errors import DeployError
from cloud_manager.store.tables import SCHEMA_VERSION, VERSION_TABLE

_MIGRATING = "cloud-deploy:migrations"


async def migrate(engine: AsyncEngine) -> None:
    """Create or upgrade the tables. Several managers may do so at once: one works, the others wait and find it done.

    Raises:
        DeployError: `newer_database`, written by a newer release, which this one must not touch.
    """
    async with engine.begin() as connection:
        if connection.dialect.name == "postgresql":
            # Held to the end of the transaction. SQLite needs none: the file lock is held, and one writer at a time.
            lock = text("SELECT pg_advisory_xact_lock(hashtextextended(:name, 0))")
            await connection.execute(lock, {"name": _MIGRATING})
        await connection.run_sync(_migrate)


def _migrate(connection: Connection) -> None:
    version = _version(connection)
    if version != SCHEMA_VERSION:
        _upgrade(connection, version)


def _version(connection: Connection) -> str | None:
    """The revision of the database, None for one without our tables."""
    if not inspect(connection).has_table(VERSION_TABLE):
        return None
    return connection.scalar(select(column("version_num")).select_from(table(VERSION_TABLE)))


def _upgrade(connection: Connection, version: str | None) -> None:
    # Imported here: a database that is up to date, the usual case, starts faster and smaller without it.
    from alembic import command
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).with_name("migrations")).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    if version is not None and version not in known:
        raise DeployError(
            f"the database has schema {version}; this release knows up to {SCHEMA_VERSION}, so a newer one wrote it",
            "start the newer release of cloud-deploy, or point DATABASE_URL at another database",
            code="newer_database",
        )
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
