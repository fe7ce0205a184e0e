"""What is true of Cloud Run alone: Google's faults, others' hands, and how often Google is asked."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from google.cloud import run_v2

from cloud_manager.deployment import Key
from cloud_manager.errors import DeployError
from cloud_manager.targets.cloud_run import CloudRunTarget
from tests.conformance.cloud_run_harness import CloudRunHarness, Google
from tests.conformance.harness import observed, until, wanted

KEY = Key("7", "42")
SERVICES = "google.cloud.run.v2.Services"
pytestmark = [pytest.mark.timeout(120), pytest.mark.slow]


@pytest.fixture
async def harness(google: Google) -> AsyncIterator[CloudRunHarness]:
    made = CloudRunHarness(google)
    yield made
    control(made, "DELETE", "/faults")
    await made.aclose()


def control(harness: CloudRunHarness, verb: str, path: str, body: Any = None) -> Any:
    with httpx.Client(base_url=harness.google.variables["GCP_EMULATOR_CONTROL"], trust_env=False) as client:
        answer = client.request(verb, path, json=body)
    assert answer.is_success, answer.text
    return answer.json() if answer.content else None


def fail(harness: CloudRunHarness, call: str, **rule: Any) -> None:
    control(harness, "PUT", "/faults", [{"call": f"{SERVICES}.{call}", **rule}])


async def all_services(harness: CloudRunHarness, parent: str = "") -> list[run_v2.Service]:
    found = await harness.services.list_services(parent=parent or harness.parent)
    return [service async for service in found]


async def the_service(harness: CloudRunHarness) -> run_v2.Service:
    (service,) = await all_services(harness)
    return service


async def settled(target: CloudRunTarget, one: Any) -> str:
    """Apply as the controller does, until it runs. Its address."""

    async def ready() -> str | None:
        seen = await target.observe(one.key)
        if (seen.state, seen.revision) == ("ready", one.revision):
            return seen.url
        if seen.revision != one.revision:
            await target.apply(one)
        return None

    return str(await until(ready, "it runs"))


@pytest.mark.parametrize("when", [pytest.param("before", marks=pytest.mark.long), "after"])
@pytest.mark.parametrize("call", ["CreateService", "UpdateService"])
async def test_a_lost_answer_makes_no_second_service(harness: CloudRunHarness, call: str, when: str) -> None:
    target, one, two = harness.target(), wanted(harness, KEY, "one"), wanted(harness, KEY, "two")
    if call == "UpdateService":
        await settled(target, one)
    fail(harness, call, code="UNAVAILABLE", when=when)
    with pytest.raises(DeployError) as lost:
        await target.apply(two)
    assert (lost.value.problem.code, lost.value.problem.retryable) == ("google_unavailable", True)
    url = await settled(target, two)
    assert await harness.ask(url) == "two"
    service = await the_service(harness)
    assert service.generation == (2 if call == "UpdateService" else 1), "nothing was done twice"


async def test_a_lost_answer_of_a_deletion_leaves_nothing(harness: CloudRunHarness) -> None:
    target, one = harness.target(), wanted(harness, KEY, "one")
    await target.apply(one)
    fail(harness, "DeleteService", code="UNAVAILABLE", when="after")
    with pytest.raises(DeployError, match="delete service"):
        await target.remove(KEY)
    await target.remove(KEY)
    await observed(target, KEY, "absent")
    assert await all_services(harness) == []


async def test_a_change_that_meets_another_is_made_at_once(harness: CloudRunHarness) -> None:
    """Google writes to a service while it comes up: what was read before is of no use."""
    target, one, two = harness.target(), wanted(harness, KEY, "one"), wanted(harness, KEY, "two")
    await target.apply(one)
    fail(harness, "UpdateService", code="ABORTED")
    await target.apply(two)
    await observed(target, KEY, "ready", two.revision)


async def test_a_missing_permission_is_told_with_the_command_that_grants_it(harness: CloudRunHarness) -> None:
    fail(harness, "CreateService", code="PERMISSION_DENIED")
    with pytest.raises(DeployError) as denied:
        await harness.target().apply(wanted(harness, KEY, "one"))
    problem = denied.value.problem
    assert (problem.code, problem.retryable) == ("permission_denied", False)
    assert problem.fix.startswith(
        "gcloud projects add-iam-policy-binding twin-project"
        " --member=serviceAccount:cloud-deploy@twin-project.iam.gserviceaccount.com --role=roles/run.developer"
    )


async def test_without_credentials_it_is_told_how_to_get_some(
    harness: CloudRunHarness, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also with a key of an account that is gone. And no part of a key is in what is told."""
    target = harness.target()
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "none.json"))
    with pytest.raises(DeployError, match=r"none\.json") as missing:
        await target.observe(KEY)
    assert (missing.value.problem.code, missing.value.problem.retryable) == ("no_credentials", False)
    key = json.loads(Path(harness.google.variables["GOOGLE_APPLICATION_CREDENTIALS"]).read_text())
    key["client_email"] = "gone@twin-project.iam.gserviceaccount.com"
    (tmp_path / "none.json").write_text(json.dumps(key))
    with pytest.raises(DeployError) as refused:
        await target.observe(KEY)
    problem = refused.value.problem
    assert (problem.code, problem.retryable) == ("credentials_refused", False)
    assert "PRIVATE" not in str(problem) and key["private_key_id"] not in str(problem)


@pytest.mark.parametrize("code", ["UNAVAILABLE", "RESOURCE_EXHAUSTED", "INTERNAL"])
async def test_what_passes_is_waited_for(harness: CloudRunHarness, code: str) -> None:
    target = harness.target()
    fail(harness, "ListServices", code=code)
    with pytest.raises(DeployError, match="list services in us-test") as away:
        await target.observe(KEY)
    assert away.value.problem.retryable
    assert (await target.observe(KEY)).state == "absent"


async def test_one_list_call_serves_all_who_ask(harness: CloudRunHarness) -> None:
    """Else a thousand projects would be a thousand calls each period."""
    target, call = harness.target(period=600), f"{SERVICES}.ListServices"
    before = control(harness, "GET", "/calls").get(call, 0)
    await asyncio.gather(*(target.observe(Key("7", str(number))) for number in range(1000)))
    assert control(harness, "GET", "/calls")[call] - before == 1


async def test_a_name_that_is_someone_elses_is_an_error_that_says_whose(harness: CloudRunHarness) -> None:
    """And their service stays as it is, whatever is done with ours."""
    target, one = harness.target(), wanted(harness, KEY, "one")
    await settled(target, one)
    name = (await the_service(harness)).name
    await target.remove(KEY)
    await observed(target, KEY, "absent")
    container = run_v2.Container(image=harness.google.image("theirs", "serve").pushed)
    theirs = run_v2.Service(template=run_v2.RevisionTemplate(containers=[container]), labels={"team": "vision"})
    short = name.rsplit("/", 1)[-1]
    await harness.services.create_service(parent=harness.parent, service=theirs, service_id=short)
    with pytest.raises(DeployError, match="is not ours") as taken:
        await target.apply(one)
    assert "team=vision" in taken.value.problem.cause
    assert not taken.value.problem.retryable
    await target.remove(KEY)
    assert (await target.observe(KEY)).state == "absent"
    service = await the_service(harness)
    assert (service.generation, bool(service.delete_time)) == (1, False)


async def test_two_installations_share_a_google_project_and_touch_nothing_of_each_other(
    harness: CloudRunHarness,
) -> None:
    """The same user and project in both: staging and production of one company, say."""
    first, one, two = harness.target(), wanted(harness, KEY, "one"), wanted(harness, KEY, "two")
    await first.apply(one)
    harness.settings = harness.settings.model_copy(update={"gcp_owner": "staging"})
    second = harness.target()
    assert (await second.observe(KEY)).state == "absent"
    await second.apply(two)
    urls = [str((await observed(*each)).url) for each in ((first, KEY, "ready"), (second, KEY, "ready"))]
    assert [await harness.ask(url) for url in urls] == ["one", "two"]
    await second.remove(KEY)
    await observed(second, KEY, "absent")
    assert await harness.ask(urls[0]) == "one"
    assert (await the_service(harness)).labels["cloud-deploy-owner"] == "cloud-deploy"


@pytest.mark.long
async def test_a_change_of_region_moves_the_service_without_a_gap(harness: CloudRunHarness) -> None:
    elsewhere = harness.region.replace("us-", "eu-")
    harness.settings = harness.settings.model_copy(update={"gcp_regions": elsewhere})
    target, one = harness.target(), wanted(harness, KEY, "one")
    before = await settled(target, one)
    two = wanted(harness, KEY, "two", region=elsewhere)
    await target.apply(two)
    seen = await target.observe(KEY)
    assert (seen.state, seen.url) == ("pending", before)
    assert await harness.ask(before) == "one"
    after = await settled(target, two)
    assert elsewhere in after
    assert await harness.ask(after) == "two"

    async def gone() -> bool:
        return await all_services(harness) == []

    await until(gone, "the service in the old region is deleted")
    parent = harness.parent.replace(harness.region, elsewhere)
    await target.remove(KEY)
    await observed(target, KEY, "absent")
    assert await all_services(harness, parent) == []


@pytest.mark.parametrize(
    "how",
    [
        pytest.param("edited", marks=pytest.mark.long),
        "edited in our name",
        "rolled back",
        pytest.param("deleted", marks=pytest.mark.long),
    ],
)
async def test_what_others_did_by_hand_is_noticed_and_mended(harness: CloudRunHarness, how: str) -> None:
    target, one, two = harness.target(), wanted(harness, KEY, "one"), wanted(harness, KEY, "two")
    await settled(target, one)
    first = (await the_service(harness)).latest_ready_revision.rsplit("/", 1)[-1]
    url = await settled(target, two)
    service = await the_service(harness)
    if how == "edited":
        service.template.containers[0].image = str(harness.google.image("one", "serve").pushed)
        service.client = "gcloud"
    elif how == "edited in our name":  # as any program does that reads a service, changes it and writes it back
        service.template.containers[0].env.append(run_v2.EnvVar(name="MORE", value="x"))
    elif how == "rolled back":
        pinned = run_v2.TrafficTargetAllocationType.TRAFFIC_TARGET_ALLOCATION_TYPE_REVISION
        service.traffic = [run_v2.TrafficTarget(type_=pinned, revision=first, percent=100)]
    if how == "deleted":
        await harness.services.delete_service(name=service.name)
    else:
        await harness.services.update_service(service=service)

    async def noticed() -> bool:
        seen = await target.observe(KEY)
        return seen.revision is None and (seen.state == "absent" or bool(seen.drift))

    await until(noticed, "it is noticed", seconds=10)
    url = await settled(target, two)
    assert await harness.ask(url) == "two"


async def test_a_revision_that_failed_is_tried_anew_when_it_is_asked_for_again(harness: CloudRunHarness) -> None:
    """Perhaps what it lacked is there now."""
    target, one = harness.target(), wanted(harness, KEY, "one")
    control(harness, "PUT", "/faults", [{"call": "revision", "reason": "SECRETS_ACCESS_CHECK_FAILED"}])
    await target.apply(one)
    failed = await observed(target, KEY, "failed", one.revision)
    assert failed.problem is not None
    assert failed.problem.code == "secret_denied"
    await target.apply(one)
    assert await harness.ask(str((await observed(target, KEY, "ready", one.revision)).url)) == "one"


@pytest.mark.parametrize("public", [True, pytest.param(False, marks=pytest.mark.long)])
async def test_only_a_public_service_answers_strangers(harness: CloudRunHarness, public: bool) -> None:
    url = await settled(harness.target(), wanted(harness, KEY, "one", public=public))
    async with harness.google.web() as stranger:
        answer = await stranger.get(url)
    assert answer.status_code == (200 if public else 403)
    assert await harness.ask(url) == "one"
