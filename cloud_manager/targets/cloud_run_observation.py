"""What services of a project mean, in the words of the target's promises, and what is to be done about them. Pure.

There may be several services of one project: after a change of its region or name, the newest is the one that counts,
and the others serve until it does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from google.cloud import run_v2

from cloud_manager.targets.cloud_run_failures import failure
from cloud_manager.targets.cloud_run_place import short
from cloud_manager.targets.cloud_run_spec import CLIENT, REVISION, is_failed, update_of
from cloud_manager.targets.cloud_run_traits import differences
from cloud_manager.targets.target import Observation, State
from image_builder.contract import Problem

_Revision = run_v2.TrafficTargetAllocationType.TRAFFIC_TARGET_ALLOCATION_TYPE_REVISION
_State = run_v2.Condition.State


@dataclass(frozen=True, slots=True)
class Create:
    service: run_v2.Service


@dataclass(frozen=True, slots=True)
class Update:
    service: run_v2.Service


@dataclass(frozen=True, slots=True)
class Delete:
    """Full names."""

    services: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Nothing:
    """It is so, or on its way."""


def newest(services: Sequence[run_v2.Service]) -> run_v2.Service | None:
    """The one that was wished for last; what is being deleted only if there is nothing else."""
    ranked = sorted(services, key=lambda one: (not one.delete_time, one.update_time or one.create_time, one.name))
    return ranked[-1] if ranked else None


def observation(services: Sequence[run_v2.Service], words: Sequence[str] = ()) -> Observation:
    """Args:
    services: of one project.
    words: the last lines of its newest revision's log, where `wants_words`.
    """
    lead = newest(services)
    if lead is None:
        return Observation("absent")
    if lead.delete_time:
        return Observation("removing", detail=short(lead.name))
    state, revision, why = _state(lead, words, alone=len(services) == 1)
    drift = changes(lead)
    if drift:  # what is there is not what was asked for, and the next `apply` makes it so
        revision, why = None, why or _changed(lead, drift)
    detail = short(lead.latest_created_revision or lead.name)
    return Observation(state, revision, _url(lead, services), why, detail, drift)


def _state(lead: run_v2.Service, words: Sequence[str], *, alone: bool) -> tuple[State, str | None, Problem | None]:
    revision = lead.labels.get(REVISION)
    if is_failed(lead):
        return "failed", revision, failure(lead, words)
    if not is_ready(lead):
        return "pending", revision, _waiting(lead)
    return ("ready", revision, None) if alone else ("pending", None, _OTHERS)


def image_of_ready(service: run_v2.Service, revisions: Sequence[run_v2.Revision]) -> str | None:
    """By its digest, the image of the revision that serves; a tag is resolved when a revision is made.

    https://cloud.google.com/run/docs/deploying#service
    """
    serving = next((one for one in revisions if one.name == service.latest_ready_revision), None)
    image = serving.containers[0].image if serving is not None and serving.containers else ""
    return image if "@sha256:" in image else None


def wants_words(services: Sequence[run_v2.Service]) -> run_v2.Service | None:
    """The service whose program's own words tell more than Google does."""
    lead = newest(services)
    return lead if lead is not None and not lead.delete_time and is_failed(lead) else None


def next_step(services: Sequence[run_v2.Service], wish: run_v2.Service) -> Create | Update | Delete | Nothing:
    there = next((one for one in services if one.name == wish.name), None)
    if there is None:
        return Create(wish)
    if there.delete_time:
        return Nothing()  # observed as `removing`: what is wanted comes after it
    same = there.labels.get(REVISION) == wish.labels[REVISION]
    if not same or is_failed(there) or changes(there):
        return Update(update_of(there, wish))
    others = tuple(one.name for one in services if one.name != wish.name and not one.delete_time)
    return Delete(others) if others and is_ready(there) else Nothing()


def is_ready(service: run_v2.Service) -> bool:
    """Its newest revision answers, and nothing is under way."""
    succeeded = service.terminal_condition.state == _State.CONDITION_SUCCEEDED
    return bool(succeeded and not service.reconciling and service.observed_generation == service.generation)


def _url(lead: run_v2.Service, services: Sequence[run_v2.Service]) -> str | None:
    """Where it answers now: nothing does before a first revision was ready."""
    serving = [one for one in (lead, *services) if one.latest_ready_revision and not one.delete_time]
    return (serving[0].uri or None) if serving else None


def changes(service: run_v2.Service) -> tuple[str, ...]:
    """What somebody else did to it: the console and gcloud leave their name, a rollback pins traffic, and whatever we
    asked for is known. What a file has no word for, and what Google fills in, is no change."""
    by = service.client if service.client not in ("", CLIENT) else ""
    pinned = [target.revision for target in service.traffic if target.type_ == _Revision]
    return (
        *((f"it was changed by {by}",) if by else ()),
        *((f"its traffic is pinned to {', '.join(map(short, pinned))}",) if pinned else ()),
        *differences(service),
    )


def _changed(service: run_v2.Service, drift: tuple[str, ...]) -> Problem:
    cause = f"the service {short(service.name)} is not as it was deployed: {'; '.join(drift)}"
    return Problem(code="changed_by_hand", cause=cause, fix="nothing to do: it is mended by itself", retryable=True)


def _waiting(service: run_v2.Service) -> Problem | None:
    """What Google says while it works, if that is worth a word."""
    words = " ".join(service.terminal_condition.message.split())
    if not words:
        return None
    return Problem(code="coming_up", cause=f"Cloud Run: {words[:300]}", fix="nothing to do but wait", retryable=True)


_OTHERS = Problem(
    code="interrupted",
    cause="services under an older name or in an older region are still there",
    fix="nothing to do: they are removed now",
    retryable=True,
)
