"""What holds for PostgreSQL in particular: several managers, one owner per project, and takeover at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import psycopg
import pytest

from cloud_manager.clock import SystemClock
from cloud_manager.deployment import Deployment, Key, Phase
from cloud_manager.errors import DeployError, LostOwnership, Unavailable
from cloud_manager.store.open import open_store
from cloud_manager.store.protocol import NewEvent, Store
from cloud_manager.store.tables import SCHEMA_VERSION
from tests.cloud_manager.storing import KEY, loaded, moved
from tests.cloud_manager.test_store_sqlite import manager, said
from tests.postgres import administrate

HOLDERS = """FROM pg_locks WHERE locktype = 'advisory' AND granted
AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"""


@pytest.fixture
async def two(postgres_database: str, tmp_path: Path) -> AsyncIterator[tuple[Store, Store]]:
    first, second = await asyncio.gather(*(open_store(postgres_database, tmp_path, SystemClock()) for _ in range(2)))
    yield first, second
    await first.aclose()
    await second.aclose()


async def taken_over(store: Store, key: Key, stack: AsyncExitStack, *, within: float = 1.0) -> Deployment:
    """The row, as soon as the store is given it."""
    async with asyncio.timeout(within):
        while True:
            block = AsyncExitStack()
            row = await block.enter_async_context(store.own(key))
            if row:
                stack.push_async_callback(block.aclose)
                return row
            await block.aclose()
            await asyncio.sleep(0.02)


async def test_one_manager_at_a_time_works_on_a_project(two: tuple[Store, Store]) -> None:
    first, second = two
    await first.want_present(KEY, loaded(), now=1.0)
    async with first.own(KEY) as mine:
        async with second.own(KEY) as theirs:
            assert mine
            assert theirs is None
        async with second.own(KEY) as again:
            assert again is None
    async with second.own(KEY) as row:
        assert row
        with pytest.raises(LostOwnership):
            await first.save(moved(mine, Phase.FAILED), now=2.0)
        assert (await second.save(moved(row, Phase.RUNNING), now=2.0)).phase is Phase.RUNNING


async def test_managers_share_projects_without_ever_sharing_one(two: tuple[Store, Store]) -> None:
    keys = [Key("7", str(number)) for number in range(5)]
    for key in keys:
        await two[0].want_present(key, loaded(), now=1.0)
    owners: dict[Key, int] = dict.fromkeys(keys, 0)

    async def work(store: Store) -> int:
        done = 0
        for key in keys * 8:
            async with store.own(key) as row:
                if row:
                    owners[key] += 1
                    assert owners[key] == 1
                    await store.save(moved(row, Phase.BUILDING), [NewEvent("step", "")], now=2.0)
                    owners[key] -= 1
                    done += 1
        return done

    done = await asyncio.gather(*(work(store) for store in two for _ in range(3)))
    assert len(await two[1].events(limit=5000)) == 5 + sum(done)


async def test_a_manager_that_is_killed_is_replaced_within_a_second(postgres_database: str, tmp_path: Path) -> None:
    store = await open_store(postgres_database, tmp_path, SystemClock())
    with manager("own", postgres_database, tmp_path) as process:
        assert said(process).readline() == "owned\n"
        async with store.own(KEY) as row:
            assert row is None
        process.kill()
        async with AsyncExitStack() as stack:
            row = await taken_over(store, KEY, stack)
            assert row.token == 2
            await store.save(moved(row, Phase.RUNNING), now=5.0)
    await store.aclose()


async def test_a_manager_that_lost_its_connection_has_lost_its_projects(
    two: tuple[Store, Store], postgres_database: str
) -> None:
    first, second = two
    other = Key("7", "43")
    for key in (KEY, other):
        await first.want_present(key, loaded(), now=1.0)
    async with first.own(KEY) as mine, first.own(other) as mine_too, AsyncExitStack() as stack:
        assert mine
        assert mine_too
        administrate(postgres_database, f"SELECT pg_terminate_backend(pid) {HOLDERS}")
        row = await taken_over(second, KEY, stack)
        for lost in (mine, mine_too):  # also what nobody took yet
            with pytest.raises(LostOwnership):
                await first.save(moved(lost, Phase.FAILED), now=2.0)
        await second.save(moved(row, Phase.RUNNING), now=3.0)
        async with first.own(other) as early:
            assert early is None  # the block that lost it is still under way in this process
    async with first.own(KEY) as later, first.own(other) as other_later:
        assert later
        assert other_later
        assert later.phase is Phase.RUNNING
        await first.save(moved(later, Phase.STOPPED), now=4.0)


async def test_the_database_itself_refuses_an_earlier_owner(two: tuple[Store, Store], postgres_database: str) -> None:
    """A manager may stand still between the look at its lock and its write; the token decides, in one statement."""
    await two[0].want_present(KEY, loaded(), now=1.0)
    async with two[0].own(KEY) as row:
        assert row
        administrate(postgres_database, "UPDATE deployments SET token = token + 1")
        with pytest.raises(LostOwnership):
            await two[0].save(moved(row, Phase.FAILED), [NewEvent("phase", "failed")], now=2.0)
    found = await two[1].get(KEY)
    assert found
    assert found.phase is Phase.STARTED
    assert [event.kind for event in await two[1].events(KEY)] == ["start"]


async def test_a_database_that_restarts_is_found_again(two: tuple[Store, Store], postgres_database: str) -> None:
    store = two[0]
    await store.want_present(KEY, loaded(), now=1.0)
    async with store.own(KEY):
        pass
    others = "FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
    administrate(postgres_database, f"SELECT pg_terminate_backend(pid) {others}")
    assert await store.get(KEY)
    async with store.own(KEY) as row:
        assert row
        await store.save(moved(row, Phase.RUNNING), now=2.0)


async def test_no_lock_stays_behind(two: tuple[Store, Store], postgres_database: str) -> None:
    await two[0].want_present(KEY, loaded(), now=1.0)
    async with two[0].own(KEY):
        assert administrate(postgres_database, f"SELECT count(*) {HOLDERS}") == [(1,)]
    async with two[0].own(Key("no", "row")):
        pass
    assert administrate(postgres_database, f"SELECT count(*) {HOLDERS}") == [(0,)]


async def test_managers_that_start_together_make_one_schema(postgres_database: str, tmp_path: Path) -> None:
    stores = await asyncio.gather(*(open_store(postgres_database, tmp_path, SystemClock()) for _ in range(5)))
    rows = await asyncio.gather(*(store.want_present(KEY, loaded(), now=1.0) for store in stores for _ in range(4)))
    assert sorted(row.generation for row in rows) == list(range(1, 21))
    for store in stores:
        await store.aclose()
    assert administrate(postgres_database, "SELECT version_num FROM cloud_deploy_version") == [(SCHEMA_VERSION,)]


async def test_a_manager_of_an_older_release_keeps_off_a_newer_database(postgres_database: str, tmp_path: Path) -> None:
    store = await open_store(postgres_database, tmp_path, SystemClock())
    await store.aclose()
    administrate(postgres_database, "UPDATE cloud_deploy_version SET version_num = '9999'")
    with pytest.raises(DeployError) as caught:
        await open_store(postgres_database, tmp_path, SystemClock())
    assert caught.value.problem.code == "newer_database"
    assert "9999" in caught.value.problem.cause


async def test_history_is_followed_without_missing_a_line(two: tuple[Store, Store]) -> None:
    """Two managers write; a reader who asks for what is after the last sequence sees every event once, in order."""
    await two[0].want_present(KEY, loaded(), now=1.0)
    writing = [
        asyncio.create_task(store.add_events(KEY, 1, [NewEvent("n", f"{number}")] * 2, now=2.0))
        for number in range(60)
        for store in two
    ]
    seen: list[int] = []
    for last_look in (False, True):
        while last_look or not all(task.done() for task in writing):
            seen += [event.sequence for event in await two[0].events(KEY, after=seen[-1] if seen else 0)]
            if last_look:
                break
    await asyncio.gather(*writing)
    assert len(seen) == len(set(seen)) == 1 + 60 * 2 * 2


async def test_a_manager_that_stands_still_holds_nobody_up_for_ever(postgres_database: str, tmp_path: Path) -> None:
    impatient = f"{postgres_database}&options=-c%20lock_timeout%3D200ms"
    store = await open_store(impatient, tmp_path, SystemClock())
    await store.want_present(KEY, loaded(), now=1.0)
    with psycopg.connect(postgres_database) as still:
        still.execute("SELECT 1 FROM deployments FOR UPDATE")
        with pytest.raises(Unavailable, match="lock timeout"):
            await store.want_absent(KEY, now=2.0)
    assert await store.want_absent(KEY, now=3.0)
    await store.aclose()


class CountingClock:
    """Sleeps are counted, not slept."""

    def __init__(self) -> None:
        self.slept: list[float] = []

    def now(self) -> float:
        return 0.0

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)


async def test_a_database_that_is_not_there_is_named_without_its_password(tmp_path: Path) -> None:
    clock = CountingClock()
    url = f"postgresql://tango:hunter2@/{{}}?host={tmp_path}&password=hunter3"
    with pytest.raises(Unavailable) as caught:
        await open_store(url.format("shop"), tmp_path, clock)
    text = str(caught.value)
    assert "hunter" not in text
    assert f"PostgreSQL at {tmp_path}:5432/shop" in text
    assert "DATABASE_URL" in text
    assert "\n" not in text
    assert sum(clock.slept) < 10  # it waited for a database that starts at the same time


async def test_a_database_that_starts_a_little_later_is_waited_for(postgres_database: str, tmp_path: Path) -> None:
    fresh = postgres_database.replace("?", "_later?", 1)

    class Clock(CountingClock):
        async def sleep(self, seconds: float) -> None:
            await super().sleep(seconds)
            if len(self.slept) == 2:
                administrate(postgres_database, f"CREATE DATABASE {fresh.partition('?')[0].rpartition('/')[2]}")

    clock = Clock()
    store = await open_store(fresh, tmp_path, clock)
    await store.aclose()
    assert len(clock.slept) == 2


@pytest.mark.parametrize("url", ["mysql://u:hunter2@h/d", "nonsense hunter2", "sqlite://", "postgres//u:hunter2@h/d"])
async def test_a_wrong_database_url_is_told_with_the_right_forms(url: str, tmp_path: Path) -> None:
    with pytest.raises(DeployError) as caught:
        await open_store(url, tmp_path, CountingClock())
    assert caught.value.problem.code == "bad_database_url"
    assert "postgresql://user:password@host/database" in caught.value.problem.fix
    assert "hunter2" not in str(caught.value)


async def test_the_short_scheme_works_too(postgres_database: str, tmp_path: Path) -> None:
    store = await open_store(postgres_database.replace("postgresql://", "postgres://"), tmp_path, SystemClock())
    assert await store.get(KEY) is None
    await store.aclose()
