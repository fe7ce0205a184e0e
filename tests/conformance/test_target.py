"""The promises of `cloud_manager/targets/target.py`, held by every target."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import pytest

from cloud_manager.deployment import Key
from cloud_manager.targets.target import Target
from tests.conformance.docker_harness import DockerHarness
from tests.conformance.fake_harness import FakeHarness
from tests.conformance.harness import Harness, observed, until, wanted
from tests.conformance.local_harness import LocalHarness

KEY = Key("7", "42")
pytestmark = pytest.mark.timeout(180)


SLOW = [pytest.param(name, marks=pytest.mark.slow) for name in ("docker", "cloud_run")]


@pytest.fixture(params=["fake", "local", *SLOW])
async def harness(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Harness]:
    made = _harness(request, tmp_path)
    yield made
    await made.aclose()


def _harness(request: pytest.FixtureRequest, folder: Path) -> Harness:
    """An engine and a base image are asked for only where they are needed."""
    if request.param == "fake":
        return FakeHarness()
    if request.param == "local":
        return LocalHarness(folder)
    if request.param == "cloud_run":
        from tests.conformance.cloud_run_harness import CloudRunHarness  # it takes seconds to import Google's packages

        return CloudRunHarness(request.getfixturevalue("google"))
    engine, base = request.getfixturevalue("docker_engine"), request.getfixturevalue("docker_base")
    return DockerHarness(engine, base, folder)


async def gone(target: Target, harness: Harness, key: Key = KEY) -> None:
    """Remove until the target says `absent`, as the controller does; then nothing is left."""

    async def absent() -> bool:
        await target.remove(key)
        return (await target.observe(key)).state == "absent"

    await until(absent, f"{key} is absent")
    assert await harness.leftovers(key) == []


async def test_nothing_is_absent_and_may_be_removed(harness: Harness) -> None:
    """Else a /stop of a project that never ran would fail."""
    target = harness.target()
    assert (await target.observe(KEY)).state == "absent"
    await target.remove(KEY)
    assert (await target.observe(KEY)).state == "absent"


async def test_a_service_comes_up_answers_and_goes(harness: Harness) -> None:
    """The whole life of a service: what every user needs."""
    target, one = harness.target(), wanted(harness, KEY, "one")
    await target.apply(one)
    assert (await target.observe(KEY)).state in ("pending", "ready")
    ready = await observed(target, KEY, "ready", one.revision)
    assert ready.problem is None
    assert await harness.ask(str(ready.url)) == "one"
    assert await harness.instance(KEY)
    await gone(target, harness)
    assert await harness.ask(str(ready.url)) is None
    await target.remove(KEY)


async def test_apply_of_what_is_there_changes_nothing(harness: Harness) -> None:
    """Else a controller that looks again would restart healthy services."""
    target, one = harness.target(), wanted(harness, KEY, "one")
    await target.apply(one)
    await target.apply(one)
    before = await observed(target, KEY, "ready", one.revision)
    instance = await harness.instance(KEY)
    await target.apply(one)
    assert await target.observe(KEY) == before
    assert await harness.instance(KEY) == instance


async def test_an_update_never_leaves_a_client_without_an_answer(harness: Harness) -> None:
    """Else every change of a line would be an outage."""
    target = harness.target()
    one, two = wanted(harness, KEY, "one"), wanted(harness, KEY, "two")
    await target.apply(one)
    url = str((await observed(target, KEY, "ready", one.revision)).url)
    answers: list[str | None] = []

    async def client() -> None:
        while True:
            answers.append(await harness.ask(url))
            await asyncio.sleep(0.02)

    polling = asyncio.create_task(client())
    await target.apply(two)
    assert (await observed(target, KEY, "ready", two.revision)).url == url

    async def only_two() -> bool:
        return answers[-5:] == ["two"] * 5

    await until(only_two, "the new revision answers")
    polling.cancel()
    with suppress(asyncio.CancelledError):
        await polling
    assert set(answers) <= {"one", "two"}
    assert answers == sorted(answers, key=lambda word: word == "two"), "an answer of the old after one of the new"
    await gone(target, harness)


async def test_a_revision_that_fails_leaves_the_old_one_serving(harness: Harness) -> None:
    """Else a slip in a line would take a running service down."""
    target = harness.target()
    one, bad = wanted(harness, KEY, "one"), wanted(harness, KEY, "bad", "exit")
    await target.apply(one)
    url = str((await observed(target, KEY, "ready", one.revision)).url)
    instance = await harness.instance(KEY)
    await target.apply(bad)
    failed = await observed(target, KEY, "failed", bad.revision)
    assert failed.problem is not None
    assert "cannot go on" in failed.problem.cause
    assert failed.url == url
    assert await harness.ask(url) == "one"
    assert await harness.instance(KEY) == instance
    await target.apply(one)
    await observed(target, KEY, "ready", one.revision)
    assert await harness.ask(url) == "one"
    await gone(target, harness)


async def test_a_first_revision_that_fails_says_why_and_can_be_mended(harness: Harness) -> None:
    target = harness.target()
    bad, good = wanted(harness, KEY, "bad", "exit"), wanted(harness, KEY, "good")
    await target.apply(bad)
    failed = await observed(target, KEY, "failed", bad.revision)
    assert failed.url is None
    assert failed.problem is not None
    assert failed.problem.code in ("exited", "never_listens"), "a cloud may not tell which of the two it was"
    await target.apply(good)
    assert await harness.ask(str((await observed(target, KEY, "ready", good.revision)).url)) == "good"
    await gone(target, harness)


async def test_another_process_sees_and_removes_what_this_one_made(harness: Harness) -> None:
    """Else a restart of the manager would orphan services."""
    one = wanted(harness, KEY, "one")
    first = harness.target()
    await first.apply(one)
    before = await observed(first, KEY, "ready", one.revision)
    instance = await harness.instance(KEY)
    await first.aclose()
    second = harness.target()
    assert await second.observe(KEY) == before
    await second.apply(one)
    assert await harness.instance(KEY) == instance
    await gone(second, harness)


@pytest.mark.parametrize("delay", [0.0, 0.01, 0.05, 0.1, 0.2, 0.4])
async def test_a_cancelled_apply_is_mended_by_the_next(harness: Harness, delay: float) -> None:
    """Else a /stop or a change in the middle of a deployment would leave half a service."""
    target, one = harness.target(), wanted(harness, KEY, "one")
    applying = asyncio.create_task(target.apply(one))
    await asyncio.sleep(delay)
    applying.cancel()
    with suppress(asyncio.CancelledError):
        await applying
    await target.apply(one)
    ready = await observed(target, KEY, "ready", one.revision)
    assert await harness.ask(str(ready.url)) == "one"
    await gone(target, harness)


@pytest.mark.parametrize("delay", [0.0, 0.01, 0.05, 0.1, 0.2, 0.4])
async def test_a_cancelled_apply_is_cleaned_by_remove(harness: Harness, delay: float) -> None:
    """Else a /stop in the middle of a deployment would leave something running."""
    target, one = harness.target(), wanted(harness, KEY, "one")
    applying = asyncio.create_task(target.apply(one))
    await asyncio.sleep(delay)
    applying.cancel()
    with suppress(asyncio.CancelledError):
        await applying
    await gone(harness.target(), harness)


async def test_a_cancelled_remove_is_finished_by_the_next(harness: Harness) -> None:
    target, one = harness.target(), wanted(harness, KEY, "one")
    await target.apply(one)
    await observed(target, KEY, "ready", one.revision)
    removing = asyncio.create_task(target.remove(KEY))
    await asyncio.sleep(0.02)
    removing.cancel()
    with suppress(asyncio.CancelledError):
        await removing
    assert (await target.observe(KEY)).state in ("removing", "absent", "ready", "pending")
    await gone(harness.target(), harness)


async def test_a_service_that_dies_is_noticed_and_comes_back(harness: Harness) -> None:
    """Else `running` would be said of something that is dead."""
    target, one = harness.target(), wanted(harness, KEY, "one")
    await target.apply(one)
    await observed(target, KEY, "ready", one.revision)
    before = await harness.instance(KEY)
    await harness.kill(KEY)

    async def noticed() -> bool:
        seen = await target.observe(KEY)
        return seen.problem is not None or (seen.state == "ready" and await harness.instance(KEY) != before)

    await until(noticed, "the death is noticed")
    await target.apply(one)
    ready = await observed(target, KEY, "ready", one.revision)
    assert await harness.ask(str(ready.url)) == "one"
    assert await harness.instance(KEY) != before
    await gone(target, harness)


async def test_what_is_not_ours_is_left_alone(harness: Harness) -> None:
    """Else a neighbour's work would be lost."""
    untouched = await harness.foreign()
    target, one = harness.target(), wanted(harness, KEY, "one")
    neighbour = Key("7", "43")
    other = wanted(harness, neighbour, "neighbour")
    await target.apply(one)
    await target.apply(other)
    await observed(target, KEY, "ready", one.revision)
    url = str((await observed(target, neighbour, "ready", other.revision)).url)
    await gone(target, harness)
    assert await harness.ask(url) == "neighbour"
    assert await untouched()
    await target.remove(Key("someone", "else"))
    assert await untouched()
    await gone(target, harness, neighbour)


async def test_logs_are_read_and_followed(harness: Harness) -> None:
    """Else a developer would not see what the program says, before and after an update."""
    target = harness.target()
    one, two = wanted(harness, KEY, "one"), wanted(harness, KEY, "two")
    await target.apply(one)
    await observed(target, KEY, "ready", one.revision)
    lines = [line async for line in target.logs(KEY, tail=100, follow=False)]
    assert any(one.revision in line for line in lines)
    assert [line async for line in target.logs(KEY, tail=1, follow=False)] == lines[-1:]
    following = target.logs(KEY, tail=0, follow=True)
    await_line = asyncio.create_task(_first_with(following, two.revision))
    await asyncio.sleep(0)
    await target.apply(two)
    await asyncio.wait_for(await_line, 60)
    await gone(target, harness)


async def _first_with(lines: AsyncIterator[str], word: str) -> str:
    async for line in lines:
        if word in line:
            return line
    raise AssertionError("the log has ended")
