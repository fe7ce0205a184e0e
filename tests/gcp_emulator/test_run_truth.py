"""Revisions that fail, traffic, operations, faults and restarts of the twin: the truth that a target must cope with."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from google.api_core import exceptions
from google.cloud import run_v2
from google.longrunning import operations_pb2
from google.protobuf import duration_pb2

from tests.gcp_emulator.run_stock import IMAGE, PARENT, Stock, outcome, service, stock

NAME = f"{PARENT}/services/hello"
STATE = run_v2.Condition.State
LATEST = run_v2.TrafficTargetAllocationType.TRAFFIC_TARGET_ALLOCATION_TYPE_LATEST
REVISION = run_v2.TrafficTargetAllocationType.TRAFFIC_TARGET_ALLOCATION_TYPE_REVISION
QUICK = run_v2.Probe(period_seconds=1, failure_threshold=1, http_get=run_v2.HTTPGetAction(path="/"))


@pytest.fixture
async def google(tmp_path: Path) -> AsyncIterator[Stock]:
    async with stock(tmp_path) as found:
        yield found


async def until(condition: Any, seconds: float = 10.0) -> None:
    """Wait for what a coroutine function says."""
    async with asyncio.timeout(seconds):
        while not await condition():
            await asyncio.sleep(0.02)


async def waited(google: Stock, request: operations_pb2.WaitOperationRequest) -> operations_pb2.Operation:
    """The stock client's own method returns the bytes undecoded."""
    return operations_pb2.Operation.FromString(await google.services.wait_operation(request))


@pytest.mark.parametrize(
    ("image", "reason", "code", "words"),
    [
        ("missing", "CONTAINER_MISSING", 5, "Image '.*/missing' not found."),
        ("denied", "CONTAINER_PERMISSION_DENIED", 7, "must have permission to read the image, .*/denied"),
        (
            "crashes",
            "HEALTH_CHECK_CONTAINER_ERROR",
            9,
            "failed to start and listen on the port defined provided by the PORT=8080 environment variable within",
        ),
    ],
)
async def test_a_revision_that_fails_says_why_everywhere(
    google: Stock, image: str, reason: str, code: int, words: str
) -> None:
    wish = service(f"{IMAGE.rsplit('/', 1)[0]}/{image}")
    operation = await google.services.create_service(parent=PARENT, service=wish, service_id="hello")
    with pytest.raises(exceptions.GoogleAPICallError, match=words):
        await outcome(operation)
    assert operation.operation.error.code == code
    made = await google.services.get_service(name=NAME)
    shown = made.terminal_condition
    assert (made.reconciling, shown.state) == (False, STATE.CONDITION_FAILED)
    assert shown.severity == run_v2.Condition.Severity.ERROR
    assert shown.message.startswith(f"Revision '{made.latest_created_revision.rsplit('/', 1)[-1]}' is not ready and")
    assert reason in (shown.reason.name, shown.revision_reason.name)
    assert (made.latest_ready_revision, made.uri, list(made.traffic_statuses)) == ("", "", [])
    assert made.observed_generation == 0
    revision = await google.revisions.get_revision(name=made.latest_created_revision)
    ready = next(one for one in revision.conditions if one.type_ == "Ready")
    assert ready.state == STATE.CONDITION_FAILED
    assert reason in (ready.reason.name, ready.revision_reason.name)


async def test_a_probe_that_was_asked_for_fails_in_its_own_words(google: Stock) -> None:
    container = run_v2.Container(image=f"{IMAGE}/deaf", startup_probe=QUICK)
    with pytest.raises(exceptions.GoogleAPICallError, match="failed the configured startup probe checks"):
        await google.create(service(template={"containers": [container]}))


async def test_a_failed_update_leaves_the_traffic_where_it_was(google: Stock) -> None:
    first = await google.create(service())
    with pytest.raises(exceptions.GoogleAPICallError, match=r"Image '.*/missing' not found\."):
        await google.update(service(f"{IMAGE}/missing", name=NAME))
    now = await google.services.get_service(name=NAME)
    assert now.latest_ready_revision == first.latest_ready_revision
    assert now.latest_created_revision != first.latest_ready_revision
    assert list(now.traffic_statuses) == list(first.traffic_statuses)
    assert (now.generation, now.observed_generation) == (2, 1)
    assert {one.type_: one.state for one in now.conditions} == {
        "RoutesReady": STATE.CONDITION_SUCCEEDED,
        "ConfigurationsReady": STATE.CONDITION_FAILED,
    }
    assert google.runtime.running() == [first.latest_ready_revision.rsplit("/", 1)[-1]]
    mended = await google.update(service(f"{IMAGE}:2", name=NAME))
    assert mended.terminal_condition.state == STATE.CONDITION_SUCCEEDED


async def test_a_rollback_is_traffic_to_an_older_revision(google: Stock) -> None:
    first = await google.create(service(template={"revision": "hello-one"}, invoker_iam_disabled=True))
    second = service(f"{IMAGE}:2", name=NAME, template={"revision": "hello-two"}, invoker_iam_disabled=True)
    await google.update(second)
    back = await google.services.get_service(name=NAME)
    back.traffic = [run_v2.TrafficTarget(type_=REVISION, revision="hello-one", percent=100)]
    rolled = await google.update(back)
    assert [(one.revision, one.percent) for one in rolled.traffic_statuses] == [("hello-one", 100)]
    assert rolled.latest_created_revision == f"{NAME}/revisions/hello-two"
    assert first.uri == rolled.uri
    assert (await google.web.get(rolled.uri)).text == "hello-one"

    async def only_the_first() -> bool:
        return google.runtime.running() == ["hello-one"]

    await until(only_the_first)
    retired = await google.revisions.get_revision(name=f"{NAME}/revisions/hello-two")
    active = next(one for one in retired.conditions if one.type_ == "Active")
    assert active.revision_reason == run_v2.Condition.RevisionReason.RETIRED


async def test_traffic_to_a_revision_that_is_not_there(google: Stock) -> None:
    made = await google.create(service())
    made.traffic = [run_v2.TrafficTarget(type_=REVISION, revision="hello-green", percent=100)]
    with pytest.raises(exceptions.GoogleAPICallError, match="Revision 'hello-green' does not exist or is deleted"):
        await google.update(made)
    now = await google.services.get_service(name=NAME)
    assert {one.type_: one.state for one in now.conditions} == {
        "RoutesReady": STATE.CONDITION_FAILED,
        "ConfigurationsReady": STATE.CONDITION_SUCCEEDED,
    }
    assert now.traffic_statuses[0].percent == 100


async def test_tags_have_addresses_of_their_own(google: Stock) -> None:
    await google.create(service(template={"revision": "hello-one"}, invoker_iam_disabled=True))
    second = service(f"{IMAGE}:2", name=NAME, template={"revision": "hello-two"}, invoker_iam_disabled=True)
    second.traffic = [
        run_v2.TrafficTarget(type_=REVISION, revision="hello-one", percent=100),
        run_v2.TrafficTarget(type_=LATEST, percent=0, tag="next"),
    ]
    made = await google.update(second)
    tag = made.traffic_statuses[1]
    assert tag.uri == made.uri.replace("https://", "https://next---")
    assert (await google.web.get(tag.uri)).text == "hello-two"
    assert (await google.web.get(f"{made.uri}/some/path?a=b")).text == "hello-one"


async def test_a_newer_update_does_not_wait_for_one_that_never_ends(google: Stock) -> None:
    google.fail(call="revision", resource="*", forever=True)
    first = await google.services.create_service(parent=PARENT, service=service(), service_id="hello")
    made = await google.update(service(f"{IMAGE}:2", name=NAME))
    assert made.generation == 2
    assert made.terminal_condition.state == STATE.CONDITION_SUCCEEDED
    with pytest.raises(exceptions.GoogleAPICallError, match="superseded"):
        await outcome(first)


async def test_a_service_that_never_comes_up_can_be_deleted(google: Stock) -> None:
    google.fail(call="revision", resource="*", forever=True)
    await google.services.create_service(parent=PARENT, service=service(), service_id="hello")
    await outcome(await google.services.delete_service(name=NAME))
    with pytest.raises(exceptions.NotFound):
        await google.services.get_service(name=NAME)


@pytest.mark.parametrize("reason", ["PROGRESS_DEADLINE_EXCEEDED", "HEALTH_CHECK_CONTAINER_ERROR", "CONTAINER_MISSING"])
async def test_every_way_to_fail_can_be_had_on_demand(google: Stock, reason: str) -> None:
    google.fail(call="revision", resource=f"{NAME}/*", reason=reason)
    with pytest.raises(exceptions.GoogleAPICallError):
        await google.create(service())
    shown = (await google.services.get_service(name=NAME)).terminal_condition
    assert reason in (shown.reason.name, shown.revision_reason.name)


async def test_a_create_whose_answer_is_lost_has_created(google: Stock) -> None:
    """Google's client does not retry it: who calls again meets his own service."""
    call = "google.cloud.run.v2.Services.CreateService"
    google.fail(call=call, resource=NAME, code="UNAVAILABLE", when="after")
    with pytest.raises(exceptions.ServiceUnavailable):
        await google.create(service())
    with pytest.raises(exceptions.AlreadyExists):
        await google.create(service())
    google.fail(call=call, code="RESOURCE_EXHAUSTED")
    with pytest.raises(exceptions.ResourceExhausted, match="Quota exceeded for quota metric"):
        await google.create(service(), "other")
    with pytest.raises(exceptions.NotFound):
        await google.services.get_service(name=f"{PARENT}/services/other")


async def test_an_operation_that_never_ends_while_the_service_is_ready(google: Stock) -> None:
    google.fail(call="operation", resource=NAME, forever=True)
    operation = await google.services.create_service(parent=PARENT, service=service(), service_id="hello")

    async def ready() -> bool:
        return not (await google.services.get_service(name=NAME)).reconciling

    await until(ready)
    assert not await operation.done()


async def test_operations_are_got_listed_waited_for_and_deleted(google: Stock) -> None:
    client = google.services
    operation = await client.create_service(parent=PARENT, service=service(), service_id="hello")
    name = operation.operation.name
    wait = operations_pb2.WaitOperationRequest(name=name, timeout=duration_pb2.Duration(seconds=10))
    assert (await waited(google, wait)).done
    got = await client.get_operation(operations_pb2.GetOperationRequest(name=name))
    assert run_v2.Service.deserialize(got.response.value).name == NAME
    listed = await client.list_operations(operations_pb2.ListOperationsRequest(name=PARENT, filter="done=true"))
    assert [one.name for one in listed.operations] == [name]
    await client.delete_operation(operations_pb2.DeleteOperationRequest(name=name))
    with pytest.raises(exceptions.NotFound):
        await client.get_operation(operations_pb2.GetOperationRequest(name=name))


async def test_waiting_ends_when_its_time_is_over(google: Stock) -> None:
    google.fail(call="revision", resource="*", forever=True)
    operation = await google.services.create_service(parent=PARENT, service=service(), service_id="hello")
    wait = operations_pb2.WaitOperationRequest(
        name=operation.operation.name, timeout=duration_pb2.Duration(nanos=50_000_000)
    )
    assert not (await waited(google, wait)).done


async def test_operations_of_cloud_run_cannot_be_cancelled(google: Stock) -> None:
    """Google's Cloud Run offers get, list, wait and delete only."""
    operation = await google.services.create_service(parent=PARENT, service=service(), service_id="hello")
    call = google.channel.unary_unary(
        "/google.longrunning.Operations/CancelOperation",
        request_serializer=operations_pb2.CancelOperationRequest.SerializeToString,
    )
    with pytest.raises(Exception, match="cannot be cancelled"):
        await call(operations_pb2.CancelOperationRequest(name=operation.operation.name))


async def test_what_was_under_way_goes_on_after_a_restart(tmp_path: Path) -> None:
    """The twin ended while a service came up, another was deleted and a third served."""
    async with stock(tmp_path) as google:
        warm = {"scaling": {"min_instance_count": 1}}
        serving = await google.create(service(template=warm), "serving")
        await google.create(service(), "leaving")
        google.fail(call="revision", resource="*coming*", forever=True)
        coming = await google.services.create_service(parent=PARENT, service=service(), service_id="coming")
        google.fail(call="operation", resource="*leaving", forever=True)
        leaving = await google.services.delete_service(name=f"{PARENT}/services/leaving")
    async with stock(tmp_path) as google:
        get = operations_pb2.GetOperationRequest

        async def both_done() -> bool:
            names = (coming.operation.name, leaving.operation.name)
            found = [await google.services.get_operation(get(name=name)) for name in names]
            return all(one.done and not one.HasField("error") for one in found)

        await until(both_done)
        listed = await google.services.list_services(parent=PARENT)
        assert [one.name.rsplit("/", 1)[-1] async for one in listed] == ["coming", "serving"]

        async def both_run() -> bool:
            return len(google.runtime.running()) == 2

        await until(both_run)
        assert await google.services.get_service(name=serving.name) == serving


async def test_a_crashed_container_is_started_by_the_next_request(google: Stock) -> None:
    made = await google.create(service(invoker_iam_disabled=True))
    google.runtime.instances[-1].ended = 1
    assert (await google.web.get(made.uri)).status_code == 200
    assert len(google.runtime.instances) == 2
