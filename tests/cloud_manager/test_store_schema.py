"""Migrations and tables say the same, and an upgrade happens whole or not at all."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import create_engine

import cloud_manager.store
from cloud_manager.clock import SystemClock
from cloud_manager.errors import DeployError
from cloud_manager.store.open import open_store
from cloud_manager.store.tables import SCHEMA_VERSION, VERSION_TABLE, metadata


async def made(folder: Path) -> Path:
    store = await open_store("", folder, SystemClock())
    await store.aclose()
    return folder / "manager.db"


async def test_the_migrations_make_the_tables_that_the_store_uses(tmp_path: Path) -> None:
    engine = create_engine(f"sqlite:///{await made(tmp_path)}")
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE, "compare_type": True})
        assert compare_metadata(context, metadata) == []
        assert context.get_current_revision() == SCHEMA_VERSION
    engine.dispose()


async def test_postgres_gets_the_same_tables(postgres_database: str, tmp_path: Path) -> None:
    store = await open_store(postgres_database, tmp_path, SystemClock())
    await store.aclose()
    engine = create_engine(postgres_database.replace("postgresql:", "postgresql+psycopg:"))
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE, "compare_type": True})
        assert compare_metadata(context, metadata) == []
    engine.dispose()


async def test_a_manager_of_an_older_release_leaves_a_newer_file_as_it_is(tmp_path: Path) -> None:
    path = await made(tmp_path)
    connection = sqlite3.connect(path)
    connection.execute(f"UPDATE {VERSION_TABLE} SET version_num = '0099'")
    connection.commit()
    with pytest.raises(DeployError) as caught:
        await open_store("", tmp_path, SystemClock())
    assert caught.value.problem.code == "newer_database"
    assert connection.execute(f"SELECT version_num FROM {VERSION_TABLE}").fetchall() == [("0099",)]
    connection.close()


async def test_a_migration_that_fails_leaves_nothing_behind(tmp_path: Path) -> None:
    """As if the process died between two of its steps: the next start finds the database as it was."""
    connection = sqlite3.connect(tmp_path / "manager.db")
    connection.execute("CREATE TABLE events (mine TEXT)")
    connection.commit()
    with pytest.raises(Exception, match="already exists"):
        await open_store("", tmp_path, SystemClock())
    assert connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall() == [("events",)]
    connection.execute("DROP TABLE events")
    connection.commit()
    connection.close()
    await made(tmp_path)


def test_the_installed_package_can_migrate() -> None:
    """The revisions are found as files beside the package, so they must be packages that setuptools includes."""
    folder = Path(cloud_manager.store.__file__).with_name("migrations")
    assert (folder / "__init__.py").is_file()
    assert (folder / "versions" / "__init__.py").is_file()
    assert list((folder / "versions").glob(f"v{SCHEMA_VERSION}_*.py"))
