"""Google's faults at every call of every life on Cloud Run: it ends right, or `failed` with cause and fix."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from google.cloud import run_v2

from cloud_manager.deployment import Phase, Want
from cloud_manager.deployment_spec import LoadedSpec
from tests.cloud_manager.stage import KEY
from tests.gcp_emulator.run_stock import Stock, service, stock
from tests.integration.cloud_run_lives import CASES, Case, comes_up
from tests.integration.cloud_run_stage import GoogleStage, wish

pytestmark = pytest.mark.timeout(240)
SERVICES = "google.cloud.run.v2.Services"
PASSING: tuple[dict[str, Any], ...] = (
    {"code": "UNAVAILABLE"},
    {"code": "UNAVAILABLE", "when": "after"},
    {"code": "RESOURCE_EXHAUSTED"},
    {"code": "ABORTED"},
    {"code": "INTERNAL", "when": "after"},
    {"code": "DEADLINE_EXCEEDED", "when": "after"},
    {"code": "UNKNOWN"},
)
LASTING: tuple[dict[str, Any], ...] = (
    {"code": "PERMISSION_DENIED"},
    {"code": "INVALID_ARGUMENT", "message": "Quota violated: NvidiaL4GpuAllocNoZonalRedundancyPerProjectRegion."},
    {"code": "UNAUTHENTICATED"},
    {"code": "FAILED_PRECONDITION"},
)
OPERATIONS: tuple[dict[str, Any], ...] = (
    {"forever": True},
    {"seconds": 0.05},
    {"code": "INTERNAL"},
    {"code": "DEADLINE_EXCEEDED"},
)
_NO_FAILURES = {"UNDEFINED", "COMMON_REASON_UNDEFINED", "REVISION_REASON_UNDEFINED", "REVISION_FAILED"}
REASONS = sorted(
    {one.name for kind in (run_v2.Condition.CommonReason, run_v2.Condition.RevisionReason) for one in kind}
    - _NO_FAILURES
)
USUAL = ("HEALTH_CHECK_CONTAINER_ERROR", "CONTAINER_MISSING", "PROGRESS_DEADLINE_EXCEEDED")


@pytest.fixture
async def google(tmp_path: Path) -> AsyncIterator[Stock]:
    async with stock(tmp_path) as google:
        yield google


def said(fault: dict[str, Any]) -> str:
    return "-".join(str(value).split()[0].rstrip(":") for value in fault.values())


async def lived(google: Stock, case: Case, at: int, fault: dict[str, Any]) -> tuple[GoogleStage, bool]:
    """The stage at the end of a life whose call number `at` fails; whether there was such a call."""
    google.twin.faults.replace([])
    stage = GoogleStage(google)
    google.fail(call=f"{SERVICES}.*", resource=f"*/{stage.place.region}*", nth=at, **fault)
    before = calls(google)
    await case.life(stage)
    return stage, calls(google) - before >= at


def calls(google: Stock) -> int:
    return sum(count for call, count in google.twin.faults.calls.items() if call.startswith(SERVICES))


async def in_the_end(stage: GoogleStage) -> None:
    """What failed says why and what to do, and is wished once more when that was done."""
    stage.google.twin.faults.replace([])
    row = stage.row()
    if row.phase is Phase.FAILED:
        assert row.facts.problem is not None and row.facts.problem.cause and row.facts.problem.fix, stage.told()
        if row.want is Want.PRESENT and row.spec is not None:
            await stage.wishes.want_present(KEY, LoadedSpec(row.spec), now=stage.clock.now())
    await stage.resync()


def selected(case: Case, faults: tuple[dict[str, Any], ...]) -> Any:
    """In CI each call of a life meets one of the faults, by turns; a long run has each call meet each."""
    yield pytest.param(case, faults, id=f"{case.life.__name__}-by-turns")
    for fault in faults:
        yield pytest.param(case, (fault,), id=f"{case.life.__name__}-{said(fault)}", marks=pytest.mark.long)


@pytest.mark.parametrize(("case", "faults"), [row for case in CASES for row in selected(case, PASSING)])
async def test_what_passes_is_waited_out(google: Stock, case: Case, faults: tuple[dict[str, Any], ...]) -> None:
    """Nobody has to do anything, and nothing is there twice."""
    for at in range(1, 500):
        fault = faults[at % len(faults)]
        stage, struck = await lived(google, case, at, fault)
        note = f"{said(fault)} at call {at}:\n{stage.told()}"
        assert stage.row().phase is not Phase.FAILED, note
        assert await stage.is_as_wished(case.ends), note
        services = len(stage.uids)
        assert services == case.services or (not case.same and services < case.services), note
        if not struck:
            break
    assert at > 3


@pytest.mark.parametrize(("case", "faults"), [row for case in CASES for row in selected(case, LASTING)])
async def test_what_does_not_pass_is_told_and_leaves_nothing(
    google: Stock, case: Case, faults: tuple[dict[str, Any], ...]
) -> None:
    for at in range(1, 500):
        fault = faults[at % len(faults)]
        stage, struck = await lived(google, case, at, fault)
        await in_the_end(stage)
        assert await stage.is_as_wished(case.ends), f"{said(fault)} at call {at}:\n{stage.told()}"
        if not struck:
            break
    assert at > 3


@pytest.mark.parametrize("fault", OPERATIONS, ids=said)
async def test_an_operation_that_ends_late_or_never_or_wrong_holds_nothing_up(
    google: Stock, fault: dict[str, Any]
) -> None:
    """What counts is the service itself."""
    for case in CASES:
        google.twin.faults.replace([])
        stage = GoogleStage(google)
        google.fail(call="operation", resource=f"*/{stage.place.region}/*", times=0, **fault)
        await case.life(stage)
        assert await stage.is_as_wished(case.ends), stage.told()


@pytest.mark.parametrize(
    "reason", [reason if reason in USUAL else pytest.param(reason, marks=pytest.mark.long) for reason in REASONS]
)
async def test_each_way_in_which_a_revision_fails(google: Stock, reason: str) -> None:
    """The first leaves nothing that answers; a later one leaves the one before it; both are tried anew when asked."""
    stage = GoogleStage(google)
    rule = {"call": "revision", "resource": f"*/{stage.place.region}/*", "reason": reason}
    google.fail(**rule)
    await comes_up(stage)
    failed_with(stage)
    await in_the_end(stage)
    assert await stage.is_as_wished("one"), stage.told()
    before = await stage.answer()
    google.fail(**rule)
    await stage.start(wish("two"))
    await stage.settle()
    failed_with(stage)
    assert await stage.answer() == before
    await in_the_end(stage)
    assert await stage.is_as_wished("two"), stage.told()
    google.fail(**rule)
    await stage.start(wish("three"))
    await stage.settle()
    await stage.stop()
    await stage.settle()
    assert await stage.is_as_wished(None) and len(stage.uids) == 1, stage.told()


def failed_with(stage: GoogleStage) -> None:
    row = stage.row()
    assert row.phase is Phase.FAILED, stage.told()
    assert row.facts.problem is not None and row.facts.problem.cause and row.facts.problem.fix


async def test_a_revision_or_a_deletion_without_end_is_told_after_half_an_hour(google: Stock) -> None:
    """Else a project would be `preparing` for ever, and nobody would know why."""
    stage = GoogleStage(google)
    stage.slow("revision")
    await stage.start(wish("one"))
    await half_an_hour(stage)
    stage.slow("deletion")
    await stage.stop()
    await half_an_hour(stage)
    assert "about to go for 30 min" in stage.story()[-1]


async def half_an_hour(stage: GoogleStage) -> None:
    await stage.steps(5)
    stage.clock.advance(1790)
    await stage.steps(3)
    assert not stage.row().phase.at_rest, stage.told()
    stage.clock.advance(20)
    await stage.settle()
    failed_with(stage)


@pytest.mark.long
@pytest.mark.parametrize("call", ["ListServices", "CreateService"])
async def test_a_call_that_is_never_answered_is_given_up_and_made_again(google: Stock, call: str) -> None:
    """By our own deadline of 15 or 30 s, in real time."""
    stage = GoogleStage(google)
    google.fail(call=f"{SERVICES}.{call}", forever=True)
    await comes_up(stage)
    assert await stage.is_as_wished("one"), stage.told()


async def theirs(stage: GoogleStage, name: str) -> run_v2.Service:
    """Somebody else makes a service of this very name."""
    await stage.google.create(service(labels={"team": "vision"}), name, parent=stage.place.parent(stage.place.region))
    return untouched(stage, name)


def untouched(stage: GoogleStage, name: str) -> run_v2.Service:
    found = stage.service(name)
    assert found is not None and found.generation == 1 and not found.delete_time and found.labels["team"] == "vision"
    return found


@pytest.mark.parametrize("call", range(1, 5))
async def test_someone_elses_service_that_appears_at_any_moment_is_left_alone(google: Stock, call: int) -> None:
    """Between our look and our creation, too: the error says whose it is."""
    stage = GoogleStage(google)
    await stage.start(wish("one"))
    name = stage.name()
    stage.before_call(call, lambda: theirs(stage, name))
    await stage.settle()
    if stage.ours():
        return  # ours was there first
    failed_with(stage)
    assert "team=vision" in stage.told() and untouched(stage, name)
    await stage.stop()
    await stage.settle()
    assert stage.row().phase is Phase.STOPPED and untouched(stage, name)


@pytest.mark.parametrize("call", range(1, 8))
@pytest.mark.parametrize("wished", ["stop", "update", "look"])
async def test_a_name_that_changes_hands_while_we_change_it_is_left_alone(
    google: Stock, wished: str, call: int
) -> None:
    """Ours was deleted by hand, theirs made in its place, just before one of our calls."""
    stage = GoogleStage(google)
    await comes_up(stage)
    name = stage.name()

    async def changes_hands() -> None:
        if stage.ours():
            await stage.deleted_by_hand()
            await theirs(stage, name)

    stage.before_call(call, changes_hands)
    if wished == "stop":
        await stage.stop()
    elif wished == "update":
        await stage.start(wish("two"))
    await stage.step()
    await stage.settle()
    await stage.resync()
    if stage.service(name) is None or stage.ours():
        return  # it was over before so many calls
    assert untouched(stage, name)
    assert stage.row().phase is (Phase.STOPPED if wished == "stop" else Phase.FAILED), stage.told()
    assert wished == "stop" or "team=vision" in stage.told()
