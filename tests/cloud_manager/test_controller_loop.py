"""The loop: who is looked at when, what is broken off, several managers, a database that goes away."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from cloud_manager.board import Board
from cloud_manager.controller import Controller
from cloud_manager.deployment import Key, Phase
from cloud_manager.errors import Unavailable
from tests.cloud_manager.stage import KEY, RESYNC, Shelf, Stage, spec
from tests.fakes.builder import FakeBuilder
from tests.fakes.memory_store import MemoryStore
from tests.fakes.target import FakeTarget


@asynccontextmanager
async def at_work(*controllers: Controller) -> AsyncIterator[list[asyncio.Task[None]]]:
    tasks = [asyncio.create_task(controller.run()) for controller in controllers]
    try:
        yield tasks
    finally:
        for task in tasks:
            task.cancel()
        for task in tasks:
            with suppress(asyncio.CancelledError):
                await task


async def calm() -> None:
    """Until everything waits for the clock: threads that look at the disk are given their turn too."""
    for _ in range(3):
        await asyncio.to_thread(int)
        for _ in range(30):
            await asyncio.sleep(0)


async def passes(stage: Stage, condition: Callable[[], bool], *, within: float = 60.0) -> float:
    """Turn the clock until the condition holds; the seconds that took."""
    began = stage.clock.now()
    await calm()
    while not condition():
        assert stage.clock.now() < began + within, f"not within {within} s\n" + "\n".join(stage.story())
        stage.clock.advance(0.1)
        await calm()
    return stage.clock.now() - began


def second_manager(stage: Stage) -> tuple[Controller, MemoryStore]:
    store = MemoryStore(stage.memory)
    targets = Shelf({"fake": FakeTarget(stage.world)})
    controller = Controller(
        store, Board(), FakeBuilder(stage.shop), targets, stage.clock, shared_root=Path("/n"), resync_seconds=RESYNC
    )
    return controller, store


async def test_a_start_is_carried_out_at_once_and_the_board_follows() -> None:
    stage = Stage()
    async with at_work(stage.controller):
        await calm()
        await stage.start()
        stage.controller.wake(KEY)
        await passes(stage, lambda: stage.board.word("7", "42") == b"running", within=3)


async def test_after_a_restart_the_status_words_are_there_and_the_work_goes_on() -> None:
    stage = Stage()
    await stage.start()
    await stage.until(Phase.BUILDING)
    for number in range(2500):
        await stage.wishes.want_absent(Key("9", str(number)), now=stage.clock.now())
    stage.restart()
    async with at_work(stage.controller):
        await calm()
        assert stage.board.word("7", "42") is not None
        await passes(stage, lambda: stage.row().phase is Phase.RUNNING)


async def test_build_progress_is_known_while_it_builds_and_forgotten_after() -> None:
    stage = Stage()
    stage.shop.looks = 1000
    async with at_work(stage.controller):
        await stage.start()
        await passes(stage, lambda: stage.row().phase is Phase.BUILDING)
        status = stage.controller.build_status(KEY)
        assert status is not None
        assert status.id == stage.row().facts.build_id
        stage.shop.run()
        await passes(stage, lambda: stage.row().phase is Phase.RUNNING)
        assert stage.controller.build_status(KEY) is None


async def test_a_stop_breaks_off_a_step_that_hangs_and_waits_for_its_end_before_it_removes() -> None:
    stage = Stage()
    stage.world.hold["apply"] = asyncio.Event()
    async with at_work(stage.controller):
        await stage.start()
        await passes(stage, lambda: stage.world.count("apply") == 1)
        await stage.stop()
        stage.controller.wake(KEY)
        await passes(stage, lambda: stage.row().phase is Phase.STOPPED, within=5)
    assert stage.nothing_left()


async def test_a_stop_while_the_builder_is_being_asked_leaves_no_build() -> None:
    stage = Stage()
    stage.shop.looks = 1000
    stage.shop.hold = asyncio.Event()
    async with at_work(stage.controller):
        await stage.start()
        await passes(stage, lambda: stage.shop.count("submit") == 1)
        stage.change_files("v2")  # The builder would answer with another build if it were asked again.
        await stage.stop()
        stage.controller.wake(KEY)
        await calm()
        stage.shop.hold.set()
        await passes(stage, lambda: stage.row().phase is Phase.STOPPED)
    assert stage.nothing_left()


async def test_a_second_stop_does_not_break_off_the_removal() -> None:
    stage = Stage()
    async with at_work(stage.controller):
        await stage.start()
        await passes(stage, lambda: stage.row().phase is Phase.RUNNING)
        stage.world.hold["remove"] = asyncio.Event()
        await stage.stop()
        stage.controller.wake(KEY)
        await passes(stage, lambda: stage.world.count("remove") == 1)
        await stage.stop()
        stage.controller.wake(KEY)
        await calm()
        assert stage.world.count("remove") == 1
        stage.world.hold.pop("remove").set()
        await passes(stage, lambda: stage.row().phase is Phase.STOPPED)
    assert stage.world.count("remove") == 1


async def test_many_projects_share_the_workers_and_none_is_forgotten() -> None:
    stage = Stage()
    keys = [Key("7", str(number)) for number in range(100)]
    async with at_work(stage.controller):
        for key in keys:
            await stage.start(key=key)
            stage.controller.wake(key)
        await passes(stage, lambda: all(stage.row(key).phase is Phase.RUNNING for key in keys))
    assert stage.world.starts == 100


async def test_the_end_of_the_process_breaks_off_steps_and_leaves_the_rows_to_the_next() -> None:
    stage = Stage()
    stage.world.hold["apply"] = asyncio.Event()
    await stage.start()
    async with at_work(stage.controller):
        await passes(stage, lambda: stage.world.count("apply") == 1)
    assert stage.row().phase is Phase.PREPARING
    assert not stage.memory.owned
    stage.world.hold.clear()
    stage.restart()
    async with at_work(stage.controller):
        await passes(stage, lambda: stage.row().phase is Phase.RUNNING)
    assert stage.world.starts == 1


async def test_a_database_that_goes_away_is_waited_for(caplog: pytest.LogCaptureFixture) -> None:
    stage = Stage()
    stage.shop.looks = 1000
    async with at_work(stage.controller) as tasks:
        await stage.start()
        await passes(stage, lambda: stage.row().phase is Phase.BUILDING)
        stage.store.failing = Unavailable("the database does not answer", "Wait")
        stage.shop.run()
        with pytest.raises(AssertionError, match="not within"):
            await passes(stage, lambda: stage.row().phase is Phase.RUNNING, within=20)
        assert not tasks[0].done()
        assert stage.board.word("7", "42") == b"building"
        stage.store.failing = None
        await passes(stage, lambda: stage.row().phase is Phase.RUNNING, within=5)
    assert "does not answer" in caplog.text


async def test_a_database_that_is_not_there_at_the_beginning_is_waited_for() -> None:
    stage = Stage()
    await stage.start()
    stage.store.failing = Unavailable("the database does not answer", "Wait")
    async with at_work(stage.controller):
        stage.clock.advance(1)
        await calm()
        stage.store.failing = None
        await passes(stage, lambda: stage.row().phase is Phase.RUNNING)


async def test_two_managers_take_one_step_at_a_time_and_each_knows_the_word() -> None:
    stage = Stage()
    stage.world.pending_looks = 3
    other, _ = second_manager(stage)
    async with at_work(stage.controller, other):
        await stage.start()
        stage.controller.wake(KEY)
        other.wake(KEY)
        await passes(stage, lambda: stage.row().phase is Phase.RUNNING)
        await passes(stage, lambda: stage.board.word("7", "42") == b"running", within=2)
    assert stage.world.starts == stage.world.count("apply") == 1
    assert len(set(stage.story())) == len(stage.story())


async def test_a_manager_that_dies_in_a_step_is_replaced_within_two_seconds() -> None:
    stage = Stage()
    other, _ = second_manager(stage)
    stage.world.hold["apply"] = asyncio.Event()
    async with at_work(stage.controller):
        await stage.start()
        await passes(stage, lambda: stage.world.count("apply") == 1)
        async with at_work(other):
            stage.clock.advance(10)
            await calm()
            assert stage.world.count("observe") == 1, "the other manager has it; this one keeps its hands off"
            stage.world.hold.clear()
            stage.store.lose_everything()
            assert await passes(stage, lambda: stage.row().phase is Phase.RUNNING, within=5) <= 2.0
    assert stage.world.starts == 1


async def test_a_step_that_lost_its_project_to_another_manager_writes_nothing(caplog: pytest.LogCaptureFixture) -> None:
    stage = Stage()
    await stage.start()
    for _ in range(3):
        await stage.step()
    stage.world.hold["observe"] = asyncio.Event()
    stage.clock.advance(10)
    stale = asyncio.create_task(stage.controller.reconcile(KEY))
    await calm()
    stage.store.lose_everything()
    stage.world.hold.pop("observe").set()
    before = stage.row()
    with caplog.at_level(logging.WARNING):
        await stale
    assert stage.row() == before
    assert "taken it over" in caplog.text


async def test_a_wish_made_at_another_manager_breaks_off_the_step_here() -> None:
    stage = Stage()
    stage.world.hold["apply"] = asyncio.Event()
    async with at_work(stage.controller):
        await stage.start()
        await passes(stage, lambda: stage.world.count("apply") == 1)
        await stage.stop()  # Nobody wakes this controller: the wish came elsewhere.
        stage.world.hold.clear()
        await passes(stage, lambda: stage.row().phase is Phase.STOPPED, within=5)
    assert stage.nothing_left()


async def test_nothing_to_do_is_a_quiet_loop() -> None:
    stage = Stage()
    await stage.start(spec())
    async with at_work(stage.controller):
        await passes(stage, lambda: stage.row().phase is Phase.RUNNING)
        looks = stage.world.count("observe")
        for _ in range(100):
            stage.clock.advance(1.0)
            await calm()
        assert stage.world.count("observe") == looks
