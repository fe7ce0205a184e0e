"""The queue with pipelines that do as they are told; the disk and the event loop are real."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from image_builder.build_queue import BuildQueue, backoff
from image_builder.build_store import BuildStore
from image_builder.contract import BuildEvent, BuildRequest, BuildState, BuildStatus, ImageReference, LayerProgress
from image_builder.errors import BuildError, BuildNotFound, FetchFailed, QueueFull, ResolveFailed
from image_builder.job import Reporter
from image_builder.plan import BuildPlan
from tests.fakes.pipeline import image_of, layout_at, maker, plan, request
from tests.image_builder.wheels import until


class QuickClock:
    """Time passes at once, and is noted."""

    def __init__(self) -> None:
        self.time = 1000.0
        self.slept: list[float] = []

    def now(self) -> float:
        return self.time

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.time += seconds
        await asyncio.sleep(0)


class Shop:
    """A builder's folder and a pipeline: it waits for `gate`, then raises `errors` one by one, then makes the image."""

    def __init__(self, folder: Path) -> None:
        self.store = BuildStore(folder / "builds")
        self.layout = layout_at(folder / "layout")
        self.clock = QuickClock()
        self.gate = asyncio.Event()
        self.gate.set()
        self.errors: list[Exception] = []
        self.begun: list[BuildPlan] = []
        self.dead: list[str] = []
        self.planner: Callable[[BuildRequest], BuildPlan] = plan

    async def build(self, plan: BuildPlan, report: Reporter) -> ImageReference:
        self.begun.append(plan)
        report.step("layers")
        try:
            await self.gate.wait()
        except asyncio.CancelledError:
            await asyncio.sleep(0.05)  # a child process that takes its time to die
            self.dead.append(plan.id)
            raise
        if self.errors:
            raise self.errors.pop(0)
        image = image_of(self.layout, plan.id)
        report.layer(LayerProgress(name="program", kind="program", state="built", size=image.size))
        return image

    def _plan(self, asked: BuildRequest) -> BuildPlan:
        return self.planner(asked)

    @asynccontextmanager
    async def open(self, **limits: int) -> AsyncIterator[BuildQueue]:
        queue = BuildQueue(self.store, maker(self.layout, self.build, self._plan), self.clock, **limits)
        await queue.start()
        try:
            yield queue
        finally:
            await queue.close()


@pytest.fixture
async def shop(tmp_path: Path) -> Shop:
    return Shop(tmp_path)


async def history(queue: BuildQueue, build_id: str, after: int = 0) -> list[BuildEvent]:
    """All events until the build is done."""
    return [event async for event in queue.events(build_id, after) if event]


async def done(queue: BuildQueue, build_id: str) -> BuildStatus:
    await history(queue, build_id)
    return await queue.status(build_id)


async def begun(shop: Shop, count: int = 1) -> None:
    async with asyncio.timeout(10):
        while len(shop.begun) < count:
            await asyncio.sleep(0.005)


async def test_two_who_ask_share_a_build(shop: Shop) -> None:
    """Otherwise the same torch is downloaded and compressed once for each project."""
    shop.gate.clear()
    async with shop.open() as queue:
        first, second = await asyncio.gather(queue.submit(request("7/42")), queue.submit(request("7/43")))
        assert first.id == second.id
        await begun(shop)
        shop.gate.set()
        status = await done(queue, first.id)
        assert (status.state, set(status.owners), len(shop.begun)) == (BuildState.SUCCEEDED, {"7/42", "7/43"}, 1)
        assert status.layers[0].state == "built"


async def test_who_asks_for_another_build_leaves_the_one_before(shop: Shop) -> None:
    """Otherwise a manager killed between our answer and its own note leaves a build that nobody waits for."""
    shop.gate.clear()
    async with shop.open() as queue:
        alone, shared = await queue.submit(request("7/42")), await queue.submit(request("7/43", port=1))
        await queue.submit(request("7/44", port=1))
        await begun(shop, 2)
        await queue.submit(request("7/42", port=2))
        await queue.submit(request("7/43", port=2))
        assert (await queue.status(alone.id)).state is BuildState.CANCELLED
        assert shop.dead == [alone.id]
        assert (await queue.status(shared.id)).owners == ("7/44",)
        shop.gate.set()


async def test_a_build_that_succeeded_is_answered_at_once(shop: Shop) -> None:
    """Otherwise a second /start of the same project takes minutes again."""
    async with shop.open() as queue:
        first = await done(queue, (await queue.submit(request())).id)
        again = await queue.submit(request("7/43"))
        assert again.state is BuildState.SUCCEEDED
        assert again.image == first.image
        assert again.owners == ("7/42", "7/43")
        assert len(shop.begun) == 1


async def test_an_image_with_a_blob_missing_is_built_again(shop: Shop) -> None:
    """Otherwise a builder whose cache was cleared promises an image that nobody can pull."""
    async with shop.open() as queue:
        status = await done(queue, (await queue.submit(request())).id)
        assert status.image
        manifest = json.loads(shop.layout.path(status.image.digest).read_bytes())
        shop.layout.path(manifest["layers"][0]["digest"]).unlink()
        assert (await queue.submit(request())).state is BuildState.QUEUED
        await done(queue, status.id)
        assert len(shop.begun) == 2


async def test_a_failed_build_runs_again_and_its_history_goes_on(shop: Shop) -> None:
    """Otherwise an error that was mended outside (an index, a quota) sticks for ever, or what happened is lost."""
    shop.errors = [ResolveFailed("no such package: tourch", "Correct the name.")]
    async with shop.open() as queue:
        build_id = (await queue.submit(request())).id
        failed = await done(queue, build_id)
        assert failed.state is BuildState.FAILED
        assert failed.problem
        assert failed.problem.cause == "no such package: tourch"
        seen = await history(queue, build_id)
        assert seen[-1].kind == "done"
        await queue.submit(request())
        whole = await history(queue, build_id)
        assert [event.sequence for event in whole] == sorted({event.sequence for event in whole})
        assert [event.kind for event in whole].count("done") == 1, "an earlier end must not end the stream"
        assert whole[len(seen) - 1].message == seen[-1].message
        assert (await queue.status(build_id)).state is BuildState.SUCCEEDED


async def test_the_last_owner_to_leave_cancels_and_what_ran_is_dead(shop: Shop) -> None:
    """Otherwise /stop answers while the old build still writes, or stops a build that another project needs."""
    shop.gate.clear()
    async with shop.open() as queue:
        build_id = (await queue.submit(request("7/42"))).id
        await queue.submit(request("7/43"))
        await begun(shop)
        assert (await queue.release(build_id, "9/99")).owners == ("7/42", "7/43")
        assert (await queue.release(build_id, "7/42")).state is BuildState.RUNNING
        status = await queue.release(build_id, "7/43")
        assert (status.state, status.owners, shop.dead) == (BuildState.CANCELLED, (), [build_id])
        assert (await history(queue, build_id))[-1].kind == "done"
        assert (await queue.release(build_id, "7/43")).state is BuildState.CANCELLED


async def test_cancel_for_all(shop: Shop) -> None:
    """Otherwise an operator cannot stop a build that many wait for."""
    shop.gate.clear()
    async with shop.open() as queue:
        build_id = (await queue.submit(request("7/42"))).id
        await queue.submit(request("7/43"))
        await begun(shop)
        assert (await queue.release(build_id, None)).state is BuildState.CANCELLED
        assert shop.dead == [build_id]


async def test_asking_while_it_is_cancelled_begins_anew_after_the_old_is_dead(shop: Shop) -> None:
    """Otherwise a quick /stop and /start has two builds of one key, or gets the cancelled one."""
    shop.gate.clear()
    async with shop.open() as queue:
        build_id = (await queue.submit(request())).id
        await begun(shop)
        leaving = asyncio.create_task(queue.release(build_id, "7/42"))
        await asyncio.sleep(0.01)
        again = await queue.submit(request())
        assert shop.dead == [build_id]
        assert (await leaving).state is BuildState.CANCELLED
        assert again.state is BuildState.QUEUED
        shop.gate.set()
        assert (await done(queue, build_id)).state is BuildState.SUCCEEDED


async def test_a_waiting_build_can_be_cancelled_and_never_runs(shop: Shop) -> None:
    """Otherwise what nobody wants any more takes a worker later."""
    shop.gate.clear()
    async with shop.open(workers=1) as queue:
        await queue.submit(request(source="a"))
        await begun(shop)
        waiting = await queue.submit(request(source="b"))
        assert (await queue.release(waiting.id, "of b")).state is BuildState.CANCELLED
        shop.gate.set()
        third = await queue.submit(request(source="c"))
        await done(queue, third.id)
        assert [plan.request.source for plan in shop.begun] == ["a", "c"]


async def test_the_queue_is_bounded_and_workers_are_few(shop: Shop) -> None:
    """Otherwise a burst of projects runs the machine out of memory."""
    shop.gate.clear()
    async with shop.open(workers=2, size=3) as queue:
        for name in "ab":
            await queue.submit(request(source=name))
        await begun(shop, 2)
        waiting = [await queue.submit(request(source=name)) for name in "cde"]
        assert (queue.count(BuildState.RUNNING), queue.count(BuildState.QUEUED)) == (2, 3)
        with pytest.raises(QueueFull) as refused:
            await queue.submit(request(source="f"))
        assert refused.value.problem.retryable
        assert (await queue.submit(request("8/1", source="c"))).owners == ("of c", "8/1"), "joining is always possible"
        shop.gate.set()
        for status in waiting:
            assert (await done(queue, status.id)).state is BuildState.SUCCEEDED
        assert (await queue.submit(request(source="f"))).state is BuildState.QUEUED


async def test_a_burst_of_different_requests_does_not_overrun_the_bound(shop: Shop) -> None:
    """Otherwise the bound holds only for those who ask one after the other."""
    shop.gate.clear()
    async with shop.open(workers=1, size=2) as queue:
        await queue.submit(request(source="first"))
        await begun(shop)
        asked = [queue.submit(request(source=f"s{number}")) for number in range(8)]
        answers = await asyncio.gather(*asked, return_exceptions=True)
        assert sum(isinstance(answer, BuildStatus) for answer in answers) == 2
        assert sum(isinstance(answer, QueueFull) for answer in answers) == 6


async def test_trouble_that_may_pass_is_waited_out_with_an_event_each(shop: Shop) -> None:
    """Otherwise a hiccup of the package index fails a deployment."""
    shop.errors = [FetchFailed("the index does not answer", "Wait.") for _ in range(2)]
    async with shop.open() as queue:
        build_id = (await queue.submit(request())).id
        assert (await done(queue, build_id)).state is BuildState.SUCCEEDED
        told = [event.message for event in await history(queue, build_id) if "Trying again" in event.message]
        assert len(told) == len(shop.clock.slept) == 2
        assert told[0].startswith("the index does not answer. Trying again in ")


async def test_trouble_that_stays_ends_the_build(shop: Shop) -> None:
    """Otherwise a build hangs for ever and nobody is told why."""
    shop.errors = [FetchFailed("the index does not answer", "Wait.") for _ in range(9)]
    async with shop.open() as queue:
        status = await done(queue, (await queue.submit(request())).id)
        assert status.problem
        assert (status.state, status.problem.retryable, len(shop.begun)) == (BuildState.FAILED, True, 5)


def test_backoff_grows_and_is_spread() -> None:
    """Otherwise all builds ask a recovering index at the same instant."""
    assert [backoff(n, 0.5) for n in range(1, 8)] == [1, 2, 4, 8, 16, 30, 30]
    assert backoff(3, 0.0) == 3
    assert backoff(3, 1.0) == 5


async def test_files_that_change_before_the_build_begins(shop: Shop) -> None:
    """Otherwise an image is kept under the key of other files, and handed to the next who asks for those."""
    shop.gate.clear()
    async with shop.open(workers=1) as queue:
        await queue.submit(request(source="a"))
        await begun(shop)
        waiting = await queue.submit(request(source="b"))
        shop.planner = lambda asked: plan(asked.model_copy(update={"port": 1}))
        shop.gate.set()
        status = await done(queue, waiting.id)
        assert status.problem
        assert (status.problem.code, status.problem.retryable) == ("source_changed", True)
        assert len(shop.begun) == 1


async def test_a_fault_in_the_pipeline_ends_that_build_only(shop: Shop, caplog: pytest.LogCaptureFixture) -> None:
    """Otherwise one bug takes a worker away for good, or a person reads a traceback."""
    shop.errors = [ZeroDivisionError("secret detail")]
    async with shop.open(workers=1) as queue:
        status = await done(queue, (await queue.submit(request(source="a"))).id)
        assert status.problem
        assert status.problem.code == "internal"
        assert "secret detail" not in str(status.problem)
        assert "secret detail" in caplog.text
        assert (await done(queue, (await queue.submit(request(source="b"))).id)).state is BuildState.SUCCEEDED


async def test_stopping_the_builder_leaves_its_builds_to_go_on(shop: Shop) -> None:
    """Otherwise restarting the builder cancels what people wait for, or loses who waits."""
    shop.gate.clear()
    async with shop.open(workers=1) as queue:
        ids = [(await queue.submit(request(source=name))).id for name in "ab"]
        await begun(shop)
    assert shop.dead == ids[:1]
    shop.gate.set()
    async with shop.open() as queue:
        for build_id, owner in zip(ids, ("of a", "of b"), strict=True):
            status = await done(queue, build_id)
            assert (status.state, status.owners) == (BuildState.SUCCEEDED, (owner,))
            messages = [event.message for event in await history(queue, build_id)]
            assert messages.count("continued after a restart") == 1


async def test_a_listener_who_resumes_after_a_restart_misses_nothing(shop: Shop) -> None:
    """Progress is numbered but not kept; were a number given twice, a listener would skip what he has not seen."""
    shop.gate.clear()

    async def chatty(plan: BuildPlan, report: Reporter) -> ImageReference:
        for number in range(20):
            shop.clock.time += 1
            report.layer(LayerProgress(name="torch", kind="wheel", state="fetching", done=number, total=20))
        return await shop.build(plan, report)

    queue = BuildQueue(shop.store, maker(shop.layout, chatty), shop.clock)
    await queue.start()
    build_id = (await queue.submit(request())).id
    last = 0
    async for event in queue.events(build_id, 0):
        assert event
        last = event.sequence
        if event.layer and event.layer.done == 19:
            break
    await queue.close()
    shop.gate.set()
    async with shop.open() as queue:
        missed = await history(queue, build_id, after=last)
        assert "continued after a restart" in [event.message for event in missed]
        assert missed[-1].kind == "done"


async def test_progress_is_thinned_out_but_the_end_of_a_layer_is_not(shop: Shop) -> None:
    """Otherwise a download of a gigabyte floods every listener, or a bar stops short of its end."""

    async def eager(plan: BuildPlan, report: Reporter) -> ImageReference:
        for number in range(1000):
            shop.clock.time += 0.001
            report.layer(LayerProgress(name="torch", kind="wheel", state="fetching", done=number, total=1000))
        report.layer(LayerProgress(name="torch", kind="wheel", state="built", size=5))
        return image_of(shop.layout, plan.id)

    queue = BuildQueue(shop.store, maker(shop.layout, eager), shop.clock)
    await queue.start()
    build_id = (await queue.submit(request())).id
    layers = [event.layer for event in await history(queue, build_id) if event.layer]
    assert len(layers) <= 6
    assert layers[-1].state == "built"
    await queue.close()


async def test_a_disk_that_refuses_is_said_and_nothing_is_begun(tmp_path: Path, shop: Shop) -> None:
    """Otherwise a build is promised that a restart does not know."""
    (tmp_path / "builds").write_text("in the way")
    async with shop.open() as queue:
        with pytest.raises(BuildError) as refused:
            await queue.submit(request())
        assert refused.value.problem.retryable
        assert "STATE_DIR" in refused.value.problem.fix
        assert await queue.newest(None, 10) == []
        assert shop.begun == []


async def test_silence_is_filled(shop: Shop) -> None:
    """Otherwise a proxy closes the stream of a long download, and the reader takes it for the end."""
    shop.gate.clear()
    async with shop.open() as queue:
        build_id = (await queue.submit(request())).id
        async for event in queue.events(build_id, 0, quiet=0.01):
            if event is None:
                shop.gate.set()
        assert (await queue.status(build_id)).state is BuildState.SUCCEEDED


async def test_newest_first_and_by_state(shop: Shop) -> None:
    """Otherwise the list shows last year's builds first."""
    async with shop.open() as queue:
        for name in "abc":
            shop.clock.time += 10
            await done(queue, (await queue.submit(request(source=name))).id)
        assert [status.request.source for status in await queue.newest(BuildState.SUCCEEDED, 2)] == ["c", "b"]
        assert await queue.newest(BuildState.FAILED, 2) == []


@pytest.mark.parametrize("build_id", ["f" * 32, "..", "../builds", "x", "F" * 32, "f" * 33, "\0"])
async def test_what_is_no_build(shop: Shop, build_id: str) -> None:
    """Otherwise a made-up id reads files beside the builds."""
    asking: list[Callable[[BuildQueue], Awaitable[object]]] = [
        lambda queue: queue.status(build_id),
        lambda queue: queue.release(build_id, None),
        lambda queue: history(queue, build_id),
    ]
    async with shop.open() as queue:
        for ask in asking:
            with pytest.raises(BuildNotFound):
                await ask(queue)


async def test_many_who_come_and_go_at_random(shop: Shop) -> None:
    """Otherwise there is an order of asking and leaving that runs a build twice at once, or leaves one for ever."""
    dice = random.Random(3)
    running: set[str] = set()

    async def build(plan: BuildPlan, report: Reporter) -> ImageReference:
        assert plan.id not in running
        running.add(plan.id)
        try:
            for number in range(dice.randrange(4)):
                report.layer(LayerProgress(name="torch", kind="wheel", state="fetching", done=number, total=4))
                await asyncio.sleep(dice.uniform(0, 0.004))
            if dice.random() < 0.3:
                raise ResolveFailed("no such package", "Correct the name.")
            return image_of(shop.layout, plan.id)
        finally:
            running.discard(plan.id)

    async def visit(queue: BuildQueue, owner: str) -> None:
        for _ in range(15):
            status = await queue.submit(request(owner, source=dice.choice("abc")))
            await asyncio.sleep(dice.uniform(0, 0.01))
            left = await queue.release(status.id, owner)
            assert owner not in left.owners

    queue = BuildQueue(shop.store, maker(shop.layout, build), shop.clock, workers=2)
    await queue.start()
    await asyncio.gather(*(visit(queue, f"7/{number}") for number in range(4)))
    assert running == set()
    assert (queue.count(BuildState.QUEUED), queue.count(BuildState.RUNNING)) == (0, 0)
    for status in await queue.newest(None, 10):
        assert status.state.done
        assert (status.owners, shop.store.load(status.id)) == ((), status)
        assert (await history(queue, status.id))[-1].kind == "done"
    await queue.close()


async def test_a_build_stands_on_the_base_that_it_found_first(shop: Shop) -> None:
    """A tag that moves between two tries would give an image of two bases: half its layers made for another."""
    pinned, moved = (f"hub.test/python@sha256:{digit * 64}" for digit in "ab")

    async def based(plan: BuildPlan, report: Reporter) -> ImageReference:
        report.base(plan.base or (moved if shop.begun else pinned))
        return await shop.build(plan, report)

    async def started() -> BuildQueue:
        queue = BuildQueue(shop.store, maker(shop.layout, based), shop.clock)
        await queue.start()
        return queue

    shop.errors.append(FetchFailed("the index is away", "Wait.", retryable=True))
    shop.gate.clear()
    queue = await started()
    build_id = (await queue.submit(request())).id
    await until(lambda: (kept := shop.store.load(build_id)) is not None and kept.base == pinned)
    await queue.close()
    shop.gate.set()
    queue = await started()
    assert (await done(queue, build_id)).base == pinned
    assert [plan.base for plan in shop.begun] == [None, pinned, pinned], "killed, failed, made"
    shop.layout.forget_image(build_id, str(shop.layout.image(build_id)))
    for blob in (shop.layout.folder / "blobs" / "sha256").iterdir():
        blob.unlink()
    await queue.submit(request())
    assert (await done(queue, build_id)).base == moved, "asked for anew, it is another build"
    await queue.close()
