"""What holds for SQLite in particular: one process, and nothing lost on kill -9."""

from __future__ import annotations

import asyncio
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import IO

import pytest

from cloud_manager.clock import SystemClock
from cloud_manager.deployment import Key, Phase
from cloud_manager.errors import DeployError, Unavailable
from cloud_manager.store.open import open_store
from cloud_manager.store.protocol import NewEvent
from tests.cloud_manager.storing import KEY, loaded, moved
from tests.postgres import until

ROOT = Path(__file__).parents[2]


def manager(work: str, url: str, state_dir: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.cloud_manager.store_process", work, url, str(state_dir)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)


def said(process: subprocess.Popen[str]) -> IO[str]:
    assert process.stdout
    return process.stdout


async def test_what_was_answered_outlives_kill_9(tmp_path: Path) -> None:
    for round_ in range(3):
        with manager("write", "", tmp_path) as process:
            lines = [said(process).readline() for _ in range(20 + 7 * round_)]
            process.kill()
            lines += said(process).readlines()
        acknowledged = int(next(line for line in reversed(lines) if line.endswith("\n")))
        with sqlite3.connect(tmp_path / "manager.db") as connection:
            assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        connection.close()
        store = await open_store("", tmp_path, SystemClock())
        row, events = await store.get(KEY), await store.events(KEY)
        await store.aclose()
        assert row
        assert row.generation >= acknowledged
        assert sum(event.kind == "start" for event in events) == row.generation
        assert sum(event.kind == "number" for event in events) in (acknowledged, acknowledged + 1, row.generation)


async def test_a_first_start_that_is_killed_half_way_is_no_trap(tmp_path: Path) -> None:
    for name in ("manager.lock", "manager.db", "manager.db-wal"):
        state_dir = tmp_path / name
        with manager("write", "", state_dir) as process:
            until((state_dir / name).exists, f"{name} to be there")
            process.kill()
        store = await open_store("", state_dir, SystemClock())
        assert (await store.want_present(KEY, loaded(), now=1.0)).generation >= 1
        await store.aclose()


async def test_a_second_manager_on_the_same_state_is_refused(tmp_path: Path) -> None:
    with manager("own", "", tmp_path) as process:
        assert said(process).readline() == "owned\n"
        with pytest.raises(DeployError) as caught:
            await open_store("", tmp_path, SystemClock())
        process.kill()
    assert caught.value.problem.code == "state_dir_in_use"
    assert f"pid {process.pid}" in caught.value.problem.cause
    assert str(tmp_path / "manager.lock") in caught.value.problem.cause
    store = await open_store("", tmp_path, SystemClock())  # a dead manager's lock is no lock
    async with store.own(KEY) as row:
        assert row
    await store.aclose()


async def test_two_state_folders_cannot_share_one_database(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/one.db"
    first = await open_store(url, tmp_path / "a", SystemClock())
    with pytest.raises(DeployError, match=r"one\.db\.lock"):
        await open_store(url, tmp_path / "b", SystemClock())
    await first.aclose()
    second = await open_store(url, tmp_path / "b", SystemClock())
    await second.aclose()


async def test_a_restart_finds_everything(tmp_path: Path) -> None:
    store = await open_store("", tmp_path / "new" / "folder", SystemClock())
    row = await store.want_present(KEY, loaded(), now=1.0)
    await store.aclose()
    store = await open_store("", tmp_path / "new" / "folder", SystemClock())
    assert await store.get(KEY) == row
    assert len(await store.events(KEY)) == 1
    await store.aclose()


async def test_a_power_cut_loses_nothing_that_was_answered(tmp_path: Path) -> None:
    """The settings that promise it; the cut itself cannot be had in a test."""
    store = await open_store("", tmp_path, SystemClock())
    async with store._engines.writer.connect() as connection:  # type: ignore[attr-defined]
        settings = {
            name: (await connection.exec_driver_sql(f"PRAGMA {name}")).scalar()
            for name in ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
        }
    await store.aclose()
    assert settings == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1, "busy_timeout": 10_000}


async def test_a_full_disk_is_named(tmp_path: Path) -> None:
    store = await open_store("", tmp_path, SystemClock())
    async with store._engines.writer.connect() as connection:  # type: ignore[attr-defined]
        await connection.exec_driver_sql("PRAGMA max_page_count=20")
        await connection.rollback()
    with pytest.raises(Unavailable) as caught:
        for _ in range(20):
            await store.add_events(KEY, 1, [NewEvent("note", "x" * 100_000)], now=1.0)
    assert caught.value.problem.code == "disk_full"
    assert str(tmp_path) in caught.value.problem.cause
    assert await store.get(KEY) is None  # reading goes on
    await store.aclose()


async def test_a_damaged_database_is_named(tmp_path: Path) -> None:
    (tmp_path / "manager.db").write_bytes(b"not a database " * 1000)
    with pytest.raises(Unavailable) as caught:
        await open_store("", tmp_path, SystemClock())
    assert caught.value.problem.code == "damaged_database"
    assert not caught.value.problem.retryable
    (tmp_path / "manager.db").unlink()
    store = await open_store("", tmp_path, SystemClock())  # the lock was given back
    await store.aclose()


async def test_a_state_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(Unavailable, match="STATE_DIR"):
        await open_store("", tmp_path / "file" / "state", SystemClock())


async def test_a_file_accepted_by_another_release_can_still_be_seen_and_stopped(tmp_path: Path) -> None:
    store = await open_store("", tmp_path, SystemClock())
    await store.want_present(KEY, loaded(), now=1.0)
    async with store.own(KEY) as row:
        assert row
        await store.save(moved(row, Phase.RUNNING, url="http://x"), now=2.0)
    await store.aclose()
    with sqlite3.connect(tmp_path / "manager.db") as connection:
        changed = """{"deploy":{"type":"local","of_yesterday":1}}"""
        facts = """{"url":"http://x","placed_on":["local"],"settled_generation":"many"}"""
        connection.execute("UPDATE deployments SET spec = ?, facts = ?", (changed, facts))
    connection.close()
    store = await open_store("", tmp_path, SystemClock())
    found = await store.get(KEY)
    stopped = await store.want_absent(KEY, now=3.0)
    await store.aclose()
    assert found
    assert found.spec is None
    assert found.facts.problem
    assert "7/42" in found.facts.problem.cause
    assert (found.facts.url, found.facts.placed_on) == ("http://x", ("local",))
    assert stopped
    assert stopped.phase is Phase.STOPPING


async def test_ten_thousand_projects_are_loaded_in_about_a_second(tmp_path: Path) -> None:
    store = await open_store("", tmp_path, SystemClock())
    await store.want_present(KEY, loaded(), now=1.0)
    async with store._engines.writer.begin() as connection:  # type: ignore[attr-defined]
        await connection.exec_driver_sql(
            """WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 9999)
            INSERT INTO deployments SELECT 'u' || i, project_id, want, generation, spec, spec_digest, origins, phase,
            facts, token, i, tries, created, updated, pinned FROM deployments, n"""
        )
        plan = str((await connection.exec_driver_sql(DUE_PLAN)).all())
    began = time.process_time()
    rows = await store.changed_since(0.0)
    spent = time.process_time() - began
    due = await store.due(20.0, 100)
    await store.aclose()
    assert len(rows) == 10_000
    assert spent < 3.0  # of processor time, on a machine that does other things too
    assert len(due) == 21
    assert "deployments_due" in plan
    assert "TEMP B-TREE" not in plan


DUE_PLAN = "EXPLAIN QUERY PLAN SELECT user_id, project_id FROM deployments WHERE due <= 20 ORDER BY due LIMIT 100"


async def test_status_can_be_read_while_others_write(tmp_path: Path) -> None:
    store = await open_store("", tmp_path, SystemClock())
    keys = [Key("7", str(number)) for number in range(50)]
    await asyncio.gather(*(store.want_present(key, loaded(), now=1.0) for key in keys))
    wishes = [store.want_absent(key, now=2.0) for key in keys]
    reads = [store.get(key) for key in keys]
    await asyncio.gather(*wishes, *reads)
    assert {row.phase for row in await store.changed_since(0.0)} == {Phase.STOPPING}
    await store.aclose()


async def test_a_service_does_not_inherit_the_lock(tmp_path: Path) -> None:
    """Else a service that outlives its manager would keep the next manager out."""
    store = await open_store("", tmp_path, SystemClock())
    with subprocess.Popen(["sleep", "60"], close_fds=False) as service:
        await store.aclose()
        again = await open_store("", tmp_path, SystemClock())
        await again.aclose()
        service.kill()


def test_a_manager_that_ends_without_closing_does_not_hang(tmp_path: Path) -> None:
    """Else a crash would leave a process that answers nothing, keeps the lock, and is not restarted."""
    with manager("leave", "", tmp_path) as process:
        assert process.wait(20) == 3
