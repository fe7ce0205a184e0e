"""Cloud Run's API through Google's stock clients: what they would meet at Google."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest
from google.api_core import exceptions
from google.cloud import run_v2
from google.iam.v1 import iam_policy_pb2, policy_pb2
from google.protobuf import field_mask_pb2
from google.rpc import error_details_pb2

from tests.gcp_emulator.run_stock import IMAGE, PARENT, Stock, outcome, service, stock

NAME = f"{PARENT}/services/hello"
STATE = run_v2.Condition.State


@pytest.fixture
async def google(tmp_path: Path) -> AsyncIterator[Stock]:
    async with stock(tmp_path) as found:
        yield found


async def test_a_service_comes_up_and_says_so_in_every_field(google: Stock) -> None:
    operation = await google.services.create_service(
        run_v2.CreateServiceRequest(parent=PARENT, service=service(labels={"owner": "me"}), service_id="hello")
    )
    assert operation.metadata.name == NAME
    assert operation.metadata.reconciling
    assert operation.metadata.terminal_condition.state == STATE.CONDITION_RECONCILING
    made = await outcome(operation)
    assert made == await google.services.get_service(name=NAME)
    assert (made.generation, made.observed_generation, made.reconciling) == (1, 1, False)
    assert made.terminal_condition.state == STATE.CONDITION_SUCCEEDED
    assert {one.type_: one.state for one in made.conditions} == {
        "RoutesReady": STATE.CONDITION_SUCCEEDED,
        "ConfigurationsReady": STATE.CONDITION_SUCCEEDED,
    }
    assert made.uri == f"https://hello-{google.twin.settings.project_number}.us-central1.run.app"
    assert list(made.urls) == [made.uri]
    assert made.latest_ready_revision == made.latest_created_revision
    assert made.latest_ready_revision.startswith(f"{NAME}/revisions/hello-00001-")
    assert [(one.percent, f"{NAME}/revisions/{one.revision}") for one in made.traffic_statuses] == [
        (100, made.latest_ready_revision)
    ]
    assert made.creator == google.twin.settings.service_account
    assert made.uid
    assert made.etag
    assert dict(made.labels) == {"owner": "me"}


async def test_what_a_request_leaves_out_is_filled_in_as_google_does(google: Stock) -> None:
    made = await google.create(service())
    container = made.template.containers[0]
    assert dict(container.resources.limits) == {"cpu": "1000m", "memory": "512Mi"}
    assert container.resources.cpu_idle
    assert (container.ports[0].name, container.ports[0].container_port) == ("http1", 8080)
    probe = container.startup_probe
    assert (probe.period_seconds, probe.timeout_seconds, probe.failure_threshold) == (240, 240, 1)
    assert probe.tcp_socket.port == 8080
    assert made.template.max_instance_request_concurrency == 80
    assert made.template.timeout.total_seconds() == 300
    assert made.template.service_account == google.twin.settings.compute_account
    assert made.template.revision == ""
    assert made.ingress == run_v2.IngressTraffic.INGRESS_TRAFFIC_ALL


async def test_validate_only_creates_nothing_and_shows_the_defaults(google: Stock) -> None:
    request = run_v2.CreateServiceRequest(parent=PARENT, service=service(), service_id="hello", validate_only=True)
    shown = await outcome(await google.services.create_service(request))
    assert shown.template.containers[0].ports[0].container_port == 8080
    with pytest.raises(exceptions.NotFound, match="Resource 'hello' of kind 'SERVICE' in region 'us-central1'"):
        await google.services.get_service(name=NAME)


async def test_the_same_name_twice_is_refused(google: Stock) -> None:
    await google.create(service())
    with pytest.raises(exceptions.AlreadyExists, match="Resource 'hello' already exists"):
        await google.create(service())


async def test_errors_of_a_request_name_the_field(google: Stock) -> None:
    with pytest.raises(exceptions.InvalidArgument) as error:
        await google.create(service(template={"timeout": {"seconds": 4000}}))
    assert error.value.message.startswith("Violation in CreateServiceRequest.service.template.timeout: ")
    found = next(one for one in error.value.details if isinstance(one, error_details_pb2.BadRequest))
    assert found.field_violations[0].field == "Violation in CreateServiceRequest.service.template.timeout"


async def test_a_service_without_a_template_is_refused_in_googles_words(google: Stock) -> None:
    """https://github.com/googleapis/google-cloud-java/issues/11101"""
    with pytest.raises(
        exceptions.InvalidArgument, match=r"Violation in CreateServiceRequest.service.template: required field not"
    ):
        await google.create(run_v2.Service())


async def test_other_projects_and_regions_that_are_none_are_refused(google: Stock) -> None:
    for parent, words in (
        ("projects/other-project/locations/us-central1", "Permission 'run.services.create' denied on resource"),
        ("projects/twin-project/locations/moon", r"Permission denied on 'locations/moon' \(or it may not exist\)"),
    ):
        with pytest.raises(exceptions.PermissionDenied, match=words):
            await google.create(service(), parent=parent)


async def test_the_project_may_be_named_by_its_number(google: Stock) -> None:
    number = google.twin.settings.project_number
    made = await google.create(service(), parent=f"projects/{number}/locations/us-central1")
    assert made.name == NAME


async def test_an_update_makes_a_revision_and_moves_the_traffic(google: Stock) -> None:
    first = await google.create(service())
    changed = run_v2.Service(first)
    changed.template.containers[0].env = [run_v2.EnvVar(name="A", value="1")]
    second = await google.update(changed)
    assert (second.generation, second.observed_generation) == (2, 2)
    assert second.etag != first.etag
    assert second.latest_ready_revision.startswith(f"{NAME}/revisions/hello-00002-")
    assert second.traffic_statuses[0].revision == second.latest_ready_revision.rsplit("/", 1)[-1]
    assert second.uid == first.uid
    assert second.create_time == first.create_time


async def test_an_old_etag_is_a_conflict(google: Stock) -> None:
    first = await google.create(service())
    await google.update(service(labels={"a": "b"}, name=NAME))
    first.labels["c"] = "d"
    with pytest.raises(exceptions.Aborted, match=r"Conflict for resource 'hello': version '.+' was specified but"):
        await google.update(first)
    with pytest.raises(exceptions.Aborted):
        await google.services.delete_service(request={"name": NAME, "etag": first.etag})


async def test_a_revision_named_twice_is_a_conflict_unless_it_is_the_same(google: Stock) -> None:
    first = await google.create(service(template={"revision": "hello-one"}))
    assert first.latest_ready_revision == f"{NAME}/revisions/hello-one"
    same = run_v2.Service(first)
    same.labels["a"] = "b"
    assert (await google.update(same)).latest_created_revision == first.latest_created_revision
    other = service(f"{IMAGE}:2", template={"revision": "hello-one"}, name=NAME)
    with pytest.raises(
        exceptions.AlreadyExists, match="Revision named 'hello-one' with different configuration already exists"
    ):
        await google.update(other)


async def test_an_update_of_what_is_not_there(google: Stock) -> None:
    with pytest.raises(exceptions.NotFound):
        await google.update(service(name=NAME))
    made = await google.update(service(name=NAME), allow_missing=True)
    assert made.name == NAME


async def test_only_the_fields_of_the_mask_are_changed(google: Stock) -> None:
    await google.create(service(labels={"kept": "yes"}))
    wish = service(f"{IMAGE}:2", name=NAME, description="new", labels={"kept": "no"})
    made = await google.update(wish, update_mask=field_mask_pb2.FieldMask(paths=["description"]))
    assert made.description == "new"
    assert dict(made.labels) == {"kept": "yes"}
    assert made.template.containers[0].image == IMAGE
    with pytest.raises(exceptions.InvalidArgument):
        await google.update(wish, update_mask=field_mask_pb2.FieldMask(paths=["no_such_field"]))


async def test_an_update_that_changes_nothing_makes_no_generation(google: Stock) -> None:
    first = await google.create(service())
    again = await google.update(run_v2.Service(first))
    assert again == first


async def test_delete_leaves_nothing(google: Stock) -> None:
    await google.create(service())
    gone = await outcome(await google.services.delete_service(name=NAME))
    assert gone.delete_time
    with pytest.raises(exceptions.NotFound):
        await google.services.get_service(name=NAME)
    revisions = await google.revisions.list_revisions(parent=f"{PARENT}/services/-")
    assert not [one async for one in revisions]
    assert google.runtime.running() == []
    assert (await google.create(service())).generation == 1


async def test_lists_come_in_pages_and_hold_each_service_once(google: Stock) -> None:
    for number in range(5):
        await google.create(service(), f"hello-{number}")
    await google.create(service(), "elsewhere", PARENT.replace("us-central1", "europe-west1"))
    pages = await google.services.list_services(request={"parent": PARENT, "page_size": 2})
    names = [one.name async for one in pages]
    assert names == [f"{PARENT}/services/hello-{number}" for number in range(5)]
    with pytest.raises(exceptions.InvalidArgument):
        await google.services.list_services(request={"parent": PARENT, "page_token": "%%%"})


async def test_revisions_are_listed_and_only_unused_ones_deleted(google: Stock) -> None:
    first = await google.create(service())
    old = first.latest_ready_revision
    await google.update(service(f"{IMAGE}:2", name=NAME))
    listed = await google.revisions.list_revisions(parent=NAME)
    assert len([one async for one in listed]) == 2
    found = await google.revisions.get_revision(name=old)
    assert found.containers[0].image == IMAGE
    assert found.service == NAME
    serving = (await google.services.get_service(name=NAME)).latest_ready_revision
    with pytest.raises(exceptions.FailedPrecondition):
        await google.revisions.delete_revision(name=serving)
    await outcome(await google.revisions.delete_revision(name=old))
    with pytest.raises(exceptions.NotFound, match="of kind 'REVISION'"):
        await google.revisions.get_revision(name=old)


async def test_policies_are_kept_and_guarded_by_their_etag(google: Stock) -> None:
    await google.create(service())
    empty = await google.services.get_iam_policy(iam_policy_pb2.GetIamPolicyRequest(resource=NAME))
    open_to_all = policy_pb2.Binding(role="roles/run.invoker", members=["allUsers"])
    wish = policy_pb2.Policy(bindings=[open_to_all], etag=empty.etag)
    made = await google.services.set_iam_policy(iam_policy_pb2.SetIamPolicyRequest(resource=NAME, policy=wish))
    assert made.etag != empty.etag
    assert await google.services.get_iam_policy(iam_policy_pb2.GetIamPolicyRequest(resource=NAME)) == made
    with pytest.raises(exceptions.Aborted, match="concurrent policy changes"):
        await google.services.set_iam_policy(iam_policy_pb2.SetIamPolicyRequest(resource=NAME, policy=wish))
    asked = iam_policy_pb2.TestIamPermissionsRequest(resource=NAME, permissions=["run.services.update"])
    assert (await google.services.test_iam_permissions(asked)).permissions == ["run.services.update"]


async def test_who_has_no_token_is_told_so(google: Stock) -> None:
    async with grpc.aio.insecure_channel(f"127.0.0.1:{google.port}") as channel:
        call = channel.unary_unary("/google.cloud.run.v2.Services/GetService")
        with pytest.raises(grpc.aio.AioRpcError, match="missing required authentication credential") as error:
            await call(b"")
        assert error.value.code() == grpc.StatusCode.UNAUTHENTICATED
        with pytest.raises(grpc.aio.AioRpcError, match="invalid authentication credentials"):
            await call(b"", metadata=(("authorization", "Bearer wrong"),))


async def test_what_is_not_served_is_named(google: Stock) -> None:
    call = google.channel.unary_unary("/google.cloud.run.v2.Jobs/CreateJob")
    with pytest.raises(grpc.aio.AioRpcError, match=r"google.cloud.run.v2.Jobs.CreateJob is not served") as error:
        await call(b"")
    assert error.value.code() == grpc.StatusCode.UNIMPLEMENTED
