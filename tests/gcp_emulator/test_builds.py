"""Cloud Build by Google's own client: what is kept, listed, cancelled, refused. No step is run here."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from google.api_core import exceptions
from google.cloud.devtools import cloudbuild_v1
from google.cloud.devtools.cloudbuild_v1 import types

from gcp_emulator.faults import Rule
from tests.gcp_emulator.build_stock import DOCKER, IMAGE, PROJECT, Status, Stock, docker, image_build, stock

Refusal = type[exceptions.GoogleAPICallError]


@pytest.fixture
async def twin(tmp_path: Path) -> AsyncIterator[Stock]:
    async with stock(tmp_path) as ready:
        yield ready


def _stuck(twin: Stock, **rule: Any) -> None:
    twin.twin.faults.add(Rule(call="build", **{"forever": True, **rule}))


@pytest.mark.parametrize("reason", ["FAILURE", "TIMEOUT", "EXPIRED", "INTERNAL_ERROR", "CANCELLED"])
async def test_each_way_to_end_shows_in_the_build_and_its_operation(twin: Stock, reason: str) -> None:
    """Whoever waits for the operation would wait for ever, or take a failure for an image."""
    twin.twin.faults.add(Rule(call="build", reason=reason))
    operation = await twin.builds.create_build(project_id=PROJECT, build=image_build())
    assert (await twin.ended(operation.metadata.build)).status == Status[reason]
    while not await operation.done():
        await asyncio.sleep(0.02)
    with pytest.raises(exceptions.GoogleAPICallError):
        await operation.result()


async def test_a_build_is_found_under_all_its_names(twin: Stock) -> None:
    build = await twin.create(image_build(tags=["mine"]))
    number = twin.twin.settings.project_number
    assert build.name == f"projects/{number}/locations/global/builds/{build.id}"
    for project in (PROJECT, number):
        name = f"projects/{project}/locations/global/builds/{build.id}"
        assert (await twin.builds.get_build(request={"name": name})).id == build.id
    with pytest.raises(exceptions.NotFound):
        await twin.builds.get_build(project_id=PROJECT, id="another")


async def test_a_list_has_the_newest_first_in_pages_and_is_filtered(twin: Stock) -> None:
    _stuck(twin, nth=3)
    made = [await twin.create(image_build(tags=[f"number-{count}"])) for count in range(3)]
    for build in made[:2]:
        await twin.ended(build)
    await twin.until(made[2], lambda now: now.status == Status.WORKING)
    request: dict[str, Any] = {"project_id": PROJECT, "page_size": 2}
    assert [one.id async for one in await twin.builds.list_builds(request=request)] == [one.id for one in made[::-1]]

    async def listed(text: str) -> list[str]:
        pages = await twin.builds.list_builds(request={"project_id": PROJECT, "filter": text})
        return [one.tags[0][-1] async for one in pages]

    assert await listed('status="WORKING" OR status="QUEUED"') == ["2"]
    assert await listed('tags="number-1"') == ["1"]
    assert await listed(f'create_time>"{made[0].create_time.rfc3339()}" AND NOT status=WORKING') == ["1"]
    with pytest.raises(exceptions.InvalidArgument, match="Unparseable"):
        await listed("status=")
    regional = {"parent": f"projects/{PROJECT}/locations/europe-west1", "project_id": PROJECT}
    assert [one async for one in await twin.builds.list_builds(request=regional)] == []


async def test_a_cancelled_build_is_over_when_the_call_returns(twin: Stock) -> None:
    _stuck(twin)
    operation = await twin.builds.create_build(project_id=PROJECT, build=image_build())
    build = operation.metadata.build
    assert (await twin.builds.cancel_build(project_id=PROJECT, id=build.id)).status == Status.CANCELLED
    assert await operation.done()
    with pytest.raises(exceptions.FailedPrecondition):
        await twin.builds.cancel_build(project_id=PROJECT, id=build.id)


async def test_a_cancelled_operation_cancels_its_build(twin: Stock) -> None:
    _stuck(twin)
    operation = await twin.builds.create_build(project_id=PROJECT, build=image_build())
    await operation.cancel()
    assert (await twin.ended(operation.metadata.build)).status == Status.CANCELLED


async def test_a_build_that_takes_too_long_times_out(twin: Stock) -> None:
    _stuck(twin)
    build = await twin.create(image_build(timeout={"seconds": 1}))
    assert (await twin.ended(build)).status == Status.TIMEOUT


async def test_a_build_is_tried_again_as_it_was_asked(twin: Stock) -> None:
    steps = [docker("push", f"{IMAGE}:1", env=["PRICE=$$5", "NAME=$_NAME"])]
    asked = image_build(tags=["again"], steps=steps, substitutions={"_NAME": "me"})
    first = await twin.ended(await twin.create(asked))
    operation = await twin.builds.retry_build(project_id=PROJECT, id=first.id)
    second = await twin.ended(operation.metadata.build)
    assert second.id != first.id
    assert (second.tags, second.images) == (["again"], [f"{IMAGE}:1"])
    assert list(first.steps[0].env) == list(second.steps[0].env) == ["PRICE=$5", "NAME=me"]


async def test_a_build_does_not_outlive_the_emulator(tmp_path: Path) -> None:
    """Else a client would wait for a build that nobody does."""
    async with stock(tmp_path) as before:
        _stuck(before)
        build = await before.create(image_build())
        await before.until(build, lambda now: now.status == Status.WORKING)
    async with stock(tmp_path) as after:
        now = await after.builds.get_build(project_id=PROJECT, id=build.id)
        assert now.status == Status.INTERNAL_ERROR


async def test_variables_are_replaced_once_and_seen_by_all(twin: Stock) -> None:
    step = docker("build", "-t", f"{IMAGE}:${{_TAG}}", "--build-arg", "P=$$HOME", ".")
    asked = image_build(steps=[step], images=[f"{IMAGE}:$_TAG-$PROJECT_ID"], substitutions={"_TAG": "seven"})
    build = await twin.create(asked)
    assert list(build.images) == [f"{IMAGE}:seven-{PROJECT}"]
    assert list(build.steps[0].args)[2:5] == [f"{IMAGE}:seven", "--build-arg", "P=$HOME"]


def _with(**fields: Any) -> Callable[[], cloudbuild_v1.Build]:
    return lambda: image_build(**fields)


REFUSED: list[tuple[Callable[[], cloudbuild_v1.Build], Refusal, str]] = [
    (cloudbuild_v1.Build, exceptions.InvalidArgument, "no build steps"),
    (_with(steps=[cloudbuild_v1.BuildStep(args=["build"])]), exceptions.InvalidArgument, "must specify a name"),
    (_with(steps=[docker("push", "a", id="a"), docker("push", "b", id="a")]), exceptions.InvalidArgument, "not unique"),
    (_with(steps=[docker("push", "a", wait_for=["b"])]), exceptions.InvalidArgument, "wait_for 'b'"),
    (_with(steps=[docker("push", "a", env=["A"])]), exceptions.InvalidArgument, "KEY=VALUE"),
    (_with(timeout={"seconds": 86401}), exceptions.InvalidArgument, "timeout"),
    (_with(timeout={"seconds": 1, "nanos": 5}), exceptions.InvalidArgument, "second granularity"),
    (_with(tags=["with space"]), exceptions.InvalidArgument, "must match format"),
    (_with(options={"disk_size_gb": 4001}), exceptions.InvalidArgument, "disk size"),
    (_with(substitutions={"_A": "1"}), exceptions.InvalidArgument, '"_A" in the substitution data is not matched'),
    (_with(substitutions={"A": "1"}), exceptions.InvalidArgument, "does not respect format"),
    (_with(tags=["$_B"]), exceptions.InvalidArgument, "must match format"),
    (_with(images=["$_B"]), exceptions.InvalidArgument, '"_B" is not a valid built-in substitution'),
    (_with(logs_bucket="gs://not-there"), exceptions.InvalidArgument, 'invalid bucket "not-there"'),
    (_with(service_account=f"projects/{PROJECT}/serviceAccounts/a@b.c"), exceptions.InvalidArgument, "logs_bucket"),
    (_with(source={"storage_source": {"bucket": "gone", "object_": "a.tar.gz"}}), exceptions.NotFound, "gone/a.tar"),
    (_with(source={"storage_source": {"bucket": "b", "object_": "a.txt"}}), exceptions.InvalidArgument, "gzipped"),
    (_with(source={"git_source": {"url": "x"}}), exceptions.MethodNotImplemented, "git_source"),
    (
        _with(steps=[cloudbuild_v1.BuildStep(name="bash", script="rm x")]),
        exceptions.MethodNotImplemented,
        "builder bash",
    ),
    (_with(steps=[docker("run", "image")]), exceptions.MethodNotImplemented, "docker 'run image' is not run"),
    (_with(steps=[docker("build", "/etc")]), exceptions.MethodNotImplemented, "'/etc' is outside /workspace"),
    (_with(steps=[docker("build", "-f", "../../x", ".")]), exceptions.MethodNotImplemented, "outside /workspace"),
    (
        _with(steps=[docker("build", "--secret", "id=a", ".")]),
        exceptions.MethodNotImplemented,
        "unrecognized arguments",
    ),
    (_with(steps=[docker("push", "a", entrypoint="bash")]), exceptions.MethodNotImplemented, "entrypoint"),
    (_with(artifacts={"images": ["x"]}), exceptions.MethodNotImplemented, "artifacts"),
]


async def test_what_cloud_build_refuses_is_refused_and_leaves_nothing(twin: Stock) -> None:
    for made, kind, words in REFUSED:
        with pytest.raises(kind, match=words.replace("(", r"\(")):
            await twin.create(made())
    assert [one async for one in await twin.builds.list_builds(project_id=PROJECT, filter="")] == []


async def test_another_project_is_denied(twin: Stock) -> None:
    with pytest.raises(exceptions.PermissionDenied):
        await twin.builds.create_build(project_id="somebody-else", build=image_build())


async def test_a_machine_and_options_are_taken(twin: Stock) -> None:
    options = types.BuildOptions(machine_type="E2_HIGHCPU_8", disk_size_gb=200, logging="CLOUD_LOGGING_ONLY")
    build = await twin.create(image_build(options=options, steps=[docker("push", "a"), docker("push", "b")]))
    assert build.options.machine_type == types.BuildOptions.MachineType.E2_HIGHCPU_8
    assert (build.logs_bucket, build.steps[0].name) == ("", DOCKER)
