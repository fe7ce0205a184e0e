"""One suite for every store: the one in memory that other tests use, SQLite, and PostgreSQL."""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from cloud_manager.clock import SystemClock
from cloud_manager.deployment import Deployment, Facts, Key, Phase, Want, digest_of
from cloud_manager.errors import LostOwnership, Unavailable
from cloud_manager.revisions import KEPT
from cloud_manager.store.open import open_store
from cloud_manager.store.protocol import NewEvent, Store
from cloud_manager.store.wishes import EVENTS_KEPT
from image_builder.contract import ImageReference, Problem
from tests.cloud_manager.storing import KEY, loaded, moved
from tests.fakes.memory_store import MemoryStore

OTHER = Key("7", "43")
IMAGE = ImageReference(repository="builds/a", digest="sha256:" + "0" * 64, size=1)
PROBLEM = Problem(code="port_in_use", cause="port 80 is taken", fix="choose another", retryable=False)


@pytest.fixture(params=["memory", "sqlite", "postgres"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Store]:
    made: Store = MemoryStore()
    if request.param == "sqlite":
        made = await open_store("", tmp_path, SystemClock())
    elif request.param == "postgres":
        made = await open_store(request.getfixturevalue("postgres_database"), tmp_path, SystemClock())
    yield made
    await made.aclose()


async def placed(store: Store, phase: Phase, *, due: float = 500.0) -> Deployment:
    """The project of KEY, in this phase."""
    await store.want_present(KEY, loaded(), now=100.0)
    async with store.own(KEY) as row:
        assert row
        return await store.save(moved(row, phase, due=due), now=101.0)


async def kinds(store: Store) -> list[tuple[int, str]]:
    return [(event.generation, event.kind) for event in await store.events(KEY)]


async def test_a_first_start_is_known_whole_at_once(store: Store) -> None:
    row = await store.want_present(KEY, loaded("hello", "atp means apt"), now=100.5)
    assert row == await store.get(KEY)
    assert (row.want, row.generation, row.phase, row.facts) == (Want.PRESENT, 1, Phase.STARTED, Facts())
    assert (row.spec, row.spec_digest) == (loaded().spec, digest_of(loaded().spec))
    assert row.origins == {"deploy.type": "deployment.yaml:3:5"}
    assert (row.token, row.due, row.tries, row.created, row.updated) == (0, 100.5, 0, 100.5, 100.5)
    assert isinstance(row.due, float)
    events = await store.events(KEY)
    assert [(event.kind, event.time, event.generation) for event in events] == [
        ("start", 100.5, 1),
        ("note", 100.5, 1),
    ]
    assert events[1].message == "atp means apt"


@pytest.mark.parametrize("phase", [Phase.STARTED, Phase.BUILDING, Phase.PREPARING, Phase.RUNNING])
async def test_a_repeated_start_shows_no_blip(store: Store, phase: Phase) -> None:
    await placed(store, phase)
    row = await store.want_present(KEY, loaded(), now=200.0)
    assert (row.phase, row.generation, row.due, row.created) == (phase, 2, 200.0, 100.0)


@pytest.mark.parametrize("phase", [Phase.FAILED, Phase.STOPPING, Phase.STOPPED])
async def test_a_start_after_the_end_begins_anew(store: Store, phase: Phase) -> None:
    await placed(store, phase)
    row = await store.want_present(KEY, loaded(), now=200.0)
    assert (row.phase, row.generation, row.tries) == (Phase.STARTED, 2, 0)


async def test_a_start_with_a_changed_file_is_seen(store: Store) -> None:
    await placed(store, Phase.RUNNING)
    row = await store.want_present(KEY, loaded("other"), now=200.0)
    assert (row.phase, row.generation, row.spec) == (Phase.STARTED, 2, loaded("other").spec)


async def test_a_start_while_stopping_with_the_same_file_is_a_start(store: Store) -> None:
    await placed(store, Phase.RUNNING)
    await store.want_absent(KEY, now=150.0)
    row = await store.want_present(KEY, loaded(), now=200.0)
    assert (row.want, row.phase, row.generation) == (Want.PRESENT, Phase.STARTED, 3)


async def test_a_stop_is_due_at_once(store: Store) -> None:
    await placed(store, Phase.RUNNING, due=math.inf)
    row = await store.want_absent(KEY, now=200.0)
    assert row == await store.get(KEY)
    assert row
    assert (row.want, row.phase, row.generation, row.due) == (Want.ABSENT, Phase.STOPPING, 2, 200.0)
    assert row.spec == loaded().spec
    assert await kinds(store) == [(1, "start"), (2, "stop")]


@pytest.mark.parametrize("phase", [Phase.STOPPING, Phase.STOPPED])
async def test_a_repeated_stop_changes_nothing(store: Store, phase: Phase) -> None:
    await placed(store, Phase.RUNNING)
    await store.want_absent(KEY, now=150.0)
    async with store.own(KEY) as owned:
        assert owned
        before = await store.save(moved(owned, phase), now=160.0)
    assert await store.want_absent(KEY, now=200.0) == before
    assert await kinds(store) == [(1, "start"), (2, "stop")]


async def test_a_stop_after_a_failed_stop_tries_again(store: Store) -> None:
    await placed(store, Phase.RUNNING)
    await store.want_absent(KEY, now=150.0)
    async with store.own(KEY) as owned:
        assert owned
        await store.save(moved(owned, Phase.FAILED), now=160.0)
    row = await store.want_absent(KEY, now=200.0)
    assert row
    assert (row.phase, row.generation) == (Phase.STOPPING, 3)


async def test_what_was_never_started_is_not_there(store: Store) -> None:
    assert await store.get(KEY) is None
    assert await store.want_absent(KEY, now=1.0) is None
    async with store.own(KEY) as row:
        assert row is None
    assert await store.events(KEY) == []


async def test_progress_is_kept(store: Store) -> None:
    await store.want_present(KEY, loaded(), now=100.0)
    async with store.own(KEY) as row:
        assert row
        event = NewEvent("error", "it fell", PROBLEM)
        saved = await store.save(moved(row, Phase.BUILDING, due=math.inf, tries=3, url="http://x"), [event], now=110.0)
    assert saved == await store.get(KEY)
    assert (saved.phase, saved.due, saved.tries, saved.facts.url) == (Phase.BUILDING, math.inf, 3, "http://x")
    assert (saved.updated, saved.spec) == (110.0, loaded().spec)
    assert (await store.events(KEY))[-1].problem == PROBLEM


async def test_facts_of_a_newer_release_survive_this_one(store: Store) -> None:
    await store.want_present(KEY, loaded(), now=100.0)
    async with store.own(KEY) as row:
        assert row
        newer = Facts.model_validate({"build_id": "b", "of_tomorrow": {"a": [1]}})
        await store.save(replace(row, facts=newer), now=101.0)
    found = await store.get(KEY)
    assert found
    assert found.facts.model_dump()["of_tomorrow"] == {"a": [1]}


async def test_progress_for_an_old_wish_leaves_the_new_wish_alone(store: Store) -> None:
    await store.want_present(KEY, loaded(), now=100.0)
    async with store.own(KEY) as row:
        assert row
        await store.want_absent(KEY, now=120.0)
        saved = await store.save(moved(row, Phase.RUNNING, due=900.0, tries=5, url="http://x"), now=130.0)
    assert (saved.phase, saved.due, saved.tries, saved.generation) == (Phase.STOPPING, 120.0, 0, 2)
    assert saved.facts.url == "http://x"  # learned, and needed to take it away


async def test_an_earlier_owner_can_write_nothing(store: Store) -> None:
    await store.want_present(KEY, loaded(), now=100.0)
    async with store.own(KEY) as old:
        pass
    async with store.own(KEY) as new:
        assert old
        assert new
        assert new.token > old.token
        with pytest.raises(LostOwnership):
            await store.save(moved(old, Phase.FAILED), [NewEvent("phase", "failed")], now=120.0)
        await store.save(moved(new, Phase.RUNNING), now=121.0)
    found = await store.get(KEY)
    assert found
    assert found.phase is Phase.RUNNING
    assert await kinds(store) == [(1, "start")]


async def test_ownership_ends_with_its_block(store: Store) -> None:
    await store.want_present(KEY, loaded(), now=100.0)
    async with store.own(KEY) as row:
        pass
    assert row
    with pytest.raises(LostOwnership):
        await store.save(moved(row, Phase.FAILED), now=120.0)


async def test_a_project_has_one_owner_at_a_time(store: Store) -> None:
    await store.want_present(KEY, loaded(), now=100.0)
    await store.want_present(OTHER, loaded(), now=100.0)
    async with store.own(KEY) as first, store.own(KEY) as second, store.own(OTHER) as other:
        assert first
        assert second is None
        assert other
        await store.save(moved(first, Phase.BUILDING), now=101.0)
    async with store.own(KEY) as again:
        assert again


async def test_an_error_in_the_block_frees_the_project(store: Store) -> None:
    await store.want_present(KEY, loaded(), now=100.0)
    with pytest.raises(ZeroDivisionError):
        async with store.own(KEY):
            raise ZeroDivisionError
    async with store.own(KEY) as row:
        assert row


async def test_starts_at_the_same_moment_make_one_row(store: Store) -> None:
    rows = await asyncio.gather(*(store.want_present(KEY, loaded(f"s{n}"), now=100.0) for n in range(20)))
    assert sorted(row.generation for row in rows) == list(range(1, 21))
    assert len({row.updated for row in rows}) == 20
    last = await store.get(KEY)
    assert last == max(rows, key=lambda row: row.generation)
    assert sorted(await kinds(store)) == [(n, "start") for n in range(1, 21)]


async def test_updated_grows_although_the_clock_stands(store: Store) -> None:
    first = await store.want_present(KEY, loaded(), now=100.0)
    second = await store.want_absent(KEY, now=100.0)
    assert second
    async with store.own(KEY) as owned:
        assert owned
        third = await store.save(moved(owned, Phase.STOPPED), now=99.0)
    assert first.updated < second.updated < third.updated < 100.001


async def test_the_board_learns_what_changed(store: Store) -> None:
    await store.want_present(KEY, loaded(), now=100.0)
    await store.want_present(OTHER, loaded(), now=200.0)
    assert [row.key for row in await store.changed_since(0.0)] == [KEY, OTHER]
    assert [row.key for row in await store.changed_since(200.0)] == [OTHER]
    assert await store.changed_since(200.1) == []


async def test_the_longest_overdue_comes_first(store: Store) -> None:
    for number, now in enumerate((30.0, 10.0, 20.0, 40.0)):
        await store.want_present(Key("7", str(number)), loaded(), now=now)
    assert await store.due(30.0, 10) == [Key("7", "1"), Key("7", "2"), Key("7", "0")]
    assert await store.due(30.0, 1) == [Key("7", "1")]
    assert await store.due(9.0, 10) == []


async def test_pages_follow_each_other_without_a_gap(store: Store) -> None:
    keys = [Key("B", "x"), Key("a", "1"), Key("a", "10"), Key("a", "2"), Key("a-b", "0"), Key("a_b", "Z")]
    for key in reversed(keys):
        await store.want_present(key, loaded(), now=1.0)
    found = [row.key for row in await store.page(limit=4)]
    found += [row.key for row in await store.page(after=found[-1], limit=4)]
    assert found == keys == sorted(keys)
    assert await store.page(after=keys[-1]) == []


async def test_history_is_read_on_from_where_one_was(store: Store) -> None:
    await store.add_events(KEY, 1, [NewEvent("a", "1"), NewEvent("b", "2")], now=1.0)
    await store.add_events(OTHER, 1, [NewEvent("c", "3")], now=2.0)
    await store.add_events(KEY, 2, [NewEvent("d", "4", PROBLEM)], now=3.0)
    every = await store.events()
    assert [event.kind for event in every] == ["a", "b", "c", "d"]
    assert [event.kind for event in await store.events(KEY)] == ["a", "b", "d"]
    assert [event.kind for event in await store.events(KEY, after=every[0].sequence, limit=1)] == ["b"]
    assert [event.kind for event in await store.events(after=every[1].sequence)] == ["c", "d"]
    assert every[3].problem == PROBLEM
    assert await store.events(after=every[3].sequence) == []


async def test_the_last_event_of_many_projects_at_once(store: Store) -> None:
    """Else a page of all projects would ask for each."""
    for key in (KEY, OTHER):
        await store.want_present(key, loaded("1"), now=1.0)
    await store.add_events(KEY, 1, [NewEvent("a", "1"), NewEvent("b", "2", PROBLEM)], now=2.0)
    last = await store.last_events([KEY, OTHER, Key("nobody", "0")])
    assert {key: (event.message, event.problem) for key, event in last.items()} == {
        KEY: ("2", PROBLEM),
        OTHER: ((await store.events(OTHER))[-1].message, None),
    }
    assert await store.last_events([]) == {}


async def test_history_does_not_grow_for_ever(store: Store) -> None:
    await store.add_events(OTHER, 1, [NewEvent("other", "stays")], now=1.0)
    many = [NewEvent("n", str(number)) for number in range(EVENTS_KEPT)]
    await store.add_events(KEY, 1, many, now=1.0)
    await store.add_events(KEY, 1, [NewEvent("n", "one more")], now=2.0)
    kept = await store.events(KEY, limit=5000)
    assert len(kept) == EVENTS_KEPT
    assert (kept[0].message, kept[-1].message) == ("1", "one more")
    assert len(await store.events(OTHER)) == 1


async def test_a_log_line_with_odd_bytes_does_not_stop_a_deployment(store: Store) -> None:
    await store.add_events(KEY, 1, [NewEvent("error", "nul \x00, half \ud83d, 한글 🚀, quote ' \" %s :x")], now=1.0)
    [event] = await store.events(KEY)
    assert event.message.startswith("nul ")
    assert event.message.endswith("한글 🚀, quote ' \" %s :x")


async def ran(store: Store, name: str, *, now: float, **facts: object) -> None:
    """The wish of this name comes to run."""
    await store.want_present(KEY, loaded(name), now=now)
    async with store.own(KEY) as row:
        assert row
        known = Facts.model_validate({"revision": name, "image": IMAGE, **facts})
        await store.save(replace(row, phase=Phase.RUNNING, facts=known), now=now + 1, serving=True)


async def test_what_ran_well_is_remembered_with_all_that_it_takes_to_run_it_again(store: Store) -> None:
    await ran(store, "one", now=10.0)
    await ran(store, "two", now=20.0, image=None, image_uri="r/two:1", resolved_uri=f"r/two@{IMAGE.digest}")
    two, one = await store.revisions(KEY)
    assert (one.revision, one.generation, one.spec, one.image) == ("one", 1, loaded("one").spec, IMAGE)
    assert (one.origins, one.spec_digest) == (loaded().origins, digest_of(loaded("one").spec))
    assert (one.first_running, one.since, one.until) == (11.0, 11.0, 21.0)
    assert (two.image, two.image_uri, two.resolved_uri) == (None, "r/two:1", f"r/two@{IMAGE.digest}")
    assert (two.since, two.until) == (21.0, None)
    assert two.pinned().image_uri == two.resolved_uri, "a tag may mean another image by now"
    assert await store.revisions(OTHER) == []


async def test_a_revision_that_runs_again_is_one_row_and_the_newest(store: Store) -> None:
    for number, name in enumerate(("one", "two", "one", "one")):
        await ran(store, name, now=10.0 * number)
    one, two = await store.revisions(KEY)
    assert (one.revision, one.generation, one.first_running, one.since, one.until) == ("one", 4, 1.0, 21.0, None)
    assert (two.revision, two.until) == ("two", 21.0)


async def test_a_stopped_project_serves_no_revision(store: Store) -> None:
    await ran(store, "one", now=10.0)
    await store.want_absent(KEY, now=20.0)
    assert (await store.revisions(KEY))[0].until is None, "it serves until it is gone"
    async with store.own(KEY) as row:
        assert row
        await store.save(moved(row, Phase.STOPPED), now=30.0)
    assert (await store.revisions(KEY))[0].until == 30.0


async def test_revisions_do_not_grow_for_ever(store: Store) -> None:
    for number in range(KEPT + 2):
        await ran(store, f"r{number}", now=10.0 * number)
    kept = [one.revision for one in await store.revisions(KEY)]
    assert (len(kept), kept[0], kept[-1]) == (KEPT, f"r{KEPT + 1}", "r2")


async def test_an_earlier_owner_remembers_nothing(store: Store) -> None:
    await store.want_present(KEY, loaded(), now=1.0)
    async with store.own(KEY) as old:
        pass
    async with store.own(KEY):
        assert old
        with pytest.raises(LostOwnership):
            await store.save(replace(old, facts=Facts(revision="x")), now=2.0, serving=True)
    assert await store.revisions(KEY) == []


async def test_a_rollback_is_a_wish_for_spec_and_image_as_they_were(store: Store) -> None:
    await ran(store, "one", now=10.0)
    await ran(store, "two", now=20.0)
    one = (await store.revisions(KEY))[1]
    row = await store.want_again(KEY, one, now=30.0)
    assert row
    assert row == await store.get(KEY)
    assert (row.want, row.generation, row.phase, row.due) == (Want.PRESENT, 3, Phase.STARTED, 30.0)
    assert (row.spec, row.spec_digest, row.pinned) == (one.spec, one.spec_digest, one.pinned())
    assert (await store.events(KEY))[-1].kind == "rollback"
    started = await store.want_present(KEY, loaded("two"), now=40.0)
    assert started.pinned is None, "a start is about the files again"
    assert await store.want_again(OTHER, one, now=50.0) is None


async def test_a_repeated_rollback_shows_no_blip(store: Store) -> None:
    await ran(store, "one", now=10.0)
    one = (await store.revisions(KEY))[0]
    await store.want_again(KEY, one, now=20.0)
    async with store.own(KEY) as row:
        assert row
        await store.save(moved(row, Phase.PREPARING), now=21.0)
    again = await store.want_again(KEY, one, now=22.0)
    assert again
    assert (again.phase, again.generation) == (Phase.PREPARING, 3)


async def test_cancelled_steps_leave_the_store_whole(store: Store) -> None:
    """A newer wish cancels steps at any instant: no lock, connection or half-written row may stay behind."""
    await store.want_present(KEY, loaded(), now=100.0)

    async def step(number: int) -> None:
        async with store.own(KEY) as row:
            if row:
                await store.save(moved(row, Phase.BUILDING, tries=number), [NewEvent("step", str(number))], now=101.0)
        await store.changed_since(0.0)

    rng = random.Random(7)
    for number in range(40):
        tasks = [asyncio.create_task(step(number)) for _ in range(2)]
        for _ in range(rng.randrange(60)):
            await asyncio.sleep(0)
        for task in tasks:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
    async with store.own(KEY) as row:
        assert row
        saved = await store.save(moved(row, Phase.RUNNING), now=200.0)
    assert saved.phase is Phase.RUNNING


async def test_a_closed_store_says_so(store: Store) -> None:
    await store.want_present(KEY, loaded(), now=100.0)
    await store.aclose()
    await store.aclose()
    if isinstance(store, MemoryStore):
        return
    with pytest.raises(Unavailable, match="closed"):
        await store.want_absent(KEY, now=101.0)
    with pytest.raises(Unavailable, match="closed"):
        await store.get(KEY)
