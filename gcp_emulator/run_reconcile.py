"""How a service gets from what is wished to what serves: a pure state machine over Google's own messages.

A change makes a new generation, and a new revision unless the template stayed the same (`accepted`). A revision is
reconciling until it is ready or failed. Once the newest is either, the service is `settled`: ready, and traffic goes
where it was asked to go; or failed, and everything that served before serves on.
https://github.com/googleapis/googleapis/blob/master/google/cloud/run/v2/service.proto (`reconciling`)
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from google.cloud import run_v2

from gcp_emulator.run_conditions import FAILED_PRECONDITION, INTERNAL, Failure, State, carried_on, condition
from gcp_emulator.run_names import short

_Type = run_v2.TrafficTargetAllocationType
_OUTPUT = [
    "name",
    "uid",
    "generation",
    "create_time",
    "update_time",
    "delete_time",
    "expire_time",
    "creator",
    "last_modifier",
    "observed_generation",
    "terminal_condition",
    "conditions",
    "latest_ready_revision",
    "latest_created_revision",
    "traffic_statuses",
    "uri",
    "urls",
    "satisfies_pzs",
    "threat_detection_enabled",
    "reconciling",
    "etag",
]
_KEPT = [
    "name",
    "uid",
    "generation",
    "create_time",
    "creator",
    "observed_generation",
    "latest_ready_revision",
    "latest_created_revision",
    "traffic_statuses",
    "uri",
    "urls",
]
_SHARED = [
    "labels",
    "annotations",
    "scaling",
    "vpc_access",
    "timeout",
    "service_account",
    "containers",
    "volumes",
    "execution_environment",
    "encryption_key",
    "max_instance_request_concurrency",
    "service_mesh",
    "encryption_key_revocation_action",
    "encryption_key_shutdown_duration",
    "session_affinity",
    "node_selector",
    "gpu_zonal_redundancy_disabled",
]
_SERVICE_KINDS = ("RoutesReady", "ConfigurationsReady")
_REVISION_KINDS = ("Ready", "ContainerReady", "ContainerHealthy", "ResourcesAvailable")


def wish_of(service: run_v2.Service) -> run_v2.Service:
    """What the user asked for, without what only Cloud Run says."""
    wish = run_v2.Service(service)
    for field in _OUTPUT:
        run_v2.Service.pb(wish).ClearField(field)
    return wish


def accepted(before: run_v2.Service | None, wish: run_v2.Service, now: datetime) -> run_v2.Service:
    """The service that now wants what `wish` says; its `name`, `uid` and `creator` are the caller's to set at first."""
    service = wish_of(wish)
    for field in _KEPT if before is not None else ():
        if field in run_v2.Service.meta.fields:
            setattr(service, field, getattr(before, field))
    service.generation = (before.generation if before is not None else 0) + 1
    service.create_time = service.create_time or now
    service.update_time = now
    return reconciling(service, now)


def reconciling(service: run_v2.Service, now: datetime) -> run_v2.Service:
    service.reconciling = True
    service.terminal_condition = condition("Ready", State.CONDITION_RECONCILING, now)
    service.conditions = [condition(kind, State.CONDITION_RECONCILING, now) for kind in _SERVICE_KINDS]
    return tagged(service)


def same_template(one: run_v2.RevisionTemplate, other: run_v2.RevisionTemplate) -> bool:
    """Whether they make the same revision: their names aside."""
    plain = [run_v2.RevisionTemplate(template) for template in (one, other)]
    for template in plain:
        template.revision = ""
    return bool(plain[0] == plain[1])


def revision_of(service: run_v2.Service, name: str, uid: str, now: datetime) -> run_v2.Revision:
    revision = run_v2.Revision(
        name=f"{service.name}/revisions/{name}",
        uid=uid,
        generation=1,
        service=service.name,
        create_time=now,
        update_time=now,
        launch_stage=service.launch_stage,
        creator=service.last_modifier,
        reconciling=True,
        conditions=[condition(kind, State.CONDITION_RECONCILING, now) for kind in _REVISION_KINDS],
    )
    source, target = run_v2.RevisionTemplate.pb(service.template), run_v2.Revision.pb(revision)
    for field in _SHARED:
        _copy_field(source, target, field)
    return tagged(revision)


def _copy_field(source: Any, target: Any, field: str) -> None:
    """Between two messages in which the field has the same name and type."""
    for descriptor, value in source.ListFields():
        if descriptor.name == field:
            merge = getattr(getattr(target, field), "MergeFrom", None)
            merge(value) if merge else setattr(target, field, value)


def state_of(revision: run_v2.Revision) -> State:
    return next((one.state for one in revision.conditions if one.type_ == "Ready"), State.CONDITION_RECONCILING)


def ready(revision: run_v2.Revision, now: datetime) -> run_v2.Revision:
    revision.conditions = [condition(kind, State.CONDITION_SUCCEEDED, now) for kind in _REVISION_KINDS]
    return _ended(revision, now)


def failed(revision: run_v2.Revision, failure: Failure, now: datetime) -> run_v2.Revision:
    where = "ContainerHealthy" if failure.reason == "HEALTH_CHECK_CONTAINER_ERROR" else "ContainerReady"
    passed = State.CONDITION_SUCCEEDED if where == "ContainerHealthy" else State.STATE_UNSPECIFIED
    revision.conditions = [
        condition("Ready", State.CONDITION_FAILED, now, failure),
        condition(where, State.CONDITION_FAILED, now, failure),
        condition("ResourcesAvailable", State.CONDITION_SUCCEEDED, now),
        *([condition("ContainerReady", passed, now)] if passed else []),
    ]
    return _ended(revision, now)


def _ended(revision: run_v2.Revision, now: datetime) -> run_v2.Revision:
    revision.reconciling = False
    revision.observed_generation = revision.generation
    revision.update_time = now
    return tagged(revision)


def failure_of(revision: run_v2.Revision, codes: Mapping[str, int]) -> Failure:
    """Why it failed, as the service says it."""
    cause = next(one for one in revision.conditions if one.type_ == "Ready")
    words = f"Revision '{short(revision.name)}' is not ready and cannot serve traffic. {cause.message}"
    return Failure(_reason(cause), words, codes.get(_reason(cause), INTERNAL))


def failure_shown(service: run_v2.Service, codes: Mapping[str, int]) -> Failure | None:
    """What a settled service says of itself."""
    shown = service.terminal_condition
    if shown.state != State.CONDITION_FAILED:
        return None
    return Failure(_reason(shown), shown.message, codes.get(_reason(shown), INTERNAL))


def _reason(cause: run_v2.Condition) -> str:
    return str(cause.revision_reason.name if "revision_reason" in cause else cause.reason.name)


def settled(
    service: run_v2.Service,
    revisions: Mapping[str, run_v2.Revision],
    now: datetime,
    *,
    uri_of_tag: Mapping[str, str],
    codes: Mapping[str, int],
) -> tuple[run_v2.Service, Failure | None]:
    """Once the newest revision is ready or failed.

    Args:
        revisions: by short name.
        uri_of_tag: the address of each tag, and of the service itself under "".
        codes: google.rpc.Code of a failure's reason.
    """
    newest = revisions[short(service.latest_created_revision)]
    if state_of(newest) == State.CONDITION_FAILED:
        failure = failure_of(newest, codes)
        return _gave_up(service, {"ConfigurationsReady": failure, "RoutesReady": None}, failure, now), failure
    problem = _traffic_problem(service, revisions)
    if problem is not None:
        return _gave_up(service, {"ConfigurationsReady": None, "RoutesReady": problem}, problem, now), problem
    service.latest_ready_revision = service.latest_created_revision
    service.traffic_statuses = [_status(target, service, uri_of_tag) for target in service.traffic]
    service.observed_generation = service.generation
    service.uri = "" if service.default_uri_disabled else uri_of_tag[""]
    service.urls = [service.uri] if service.uri else []
    return _finished(service, dict.fromkeys(_SERVICE_KINDS), None, now), None


def _traffic_problem(service: run_v2.Service, revisions: Mapping[str, run_v2.Revision]) -> Failure | None:
    for target in service.traffic:
        name = short(target.revision)
        if target.type_ != _Type.TRAFFIC_TARGET_ALLOCATION_TYPE_REVISION:
            continue
        if name not in revisions:
            words = (
                f"Revision '{name}' does not exist or is deleted."
                " Update all traffic to route to currently available revisions."
            )
            return Failure("UNKNOWN", words, INTERNAL)
        if state_of(revisions[name]) != State.CONDITION_SUCCEEDED:
            words = f"Revision '{name}' is not ready and cannot serve traffic."
            return Failure("REVISION_FAILED", words, FAILED_PRECONDITION)
    return None


def _status(
    target: run_v2.TrafficTarget, service: run_v2.Service, uri_of_tag: Mapping[str, str]
) -> run_v2.TrafficTargetStatus:
    latest = target.type_ != _Type.TRAFFIC_TARGET_ALLOCATION_TYPE_REVISION
    return run_v2.TrafficTargetStatus(
        type_=target.type_,
        revision=short(service.latest_ready_revision) if latest else short(target.revision),
        percent=target.percent,
        tag=target.tag,
        uri=uri_of_tag[target.tag] if target.tag else "",
    )


def _gave_up(
    service: run_v2.Service, problems: Mapping[str, Failure | None], failure: Failure, now: datetime
) -> run_v2.Service:
    """What served serves on. Routes of a service that never served are as unready as its configuration."""
    served = bool(service.traffic_statuses)
    shown = {kind: problem if problem or served else failure for kind, problem in problems.items()}
    return _finished(service, shown, failure, now)


def _finished(
    service: run_v2.Service, problems: Mapping[str, Failure | None], failure: Failure | None, now: datetime
) -> run_v2.Service:
    before = list(service.conditions)
    service.conditions = [carried_on(_said(kind, problems[kind], now), before) for kind in _SERVICE_KINDS]
    service.terminal_condition = _said("Ready", failure, now)
    service.reconciling = False
    return tagged(service)


def _said(kind: str, failure: Failure | None, now: datetime) -> run_v2.Condition:
    state = State.CONDITION_FAILED if failure else State.CONDITION_SUCCEEDED
    return condition(kind, state, now, failure)


def serving(service: run_v2.Service) -> set[str]:
    """Short names of the revisions that must be able to answer: by percent or by tag."""
    return {status.revision for status in service.traffic_statuses if status.percent or status.tag}


def marked(revision: run_v2.Revision, *, active: bool, now: datetime) -> run_v2.Revision | None:
    """Whether it serves, as its condition `Active` says; None where that is said already."""
    words = condition("Active", State.CONDITION_SUCCEEDED, now)
    if not active:
        words = condition("Active", State.CONDITION_FAILED, now, Failure("RETIRED", "Revision retired."))
        words.severity = run_v2.Condition.Severity.INFO
    others = [one for one in revision.conditions if one.type_ != "Active"]
    if any(carried_on(words, [one]) is one for one in revision.conditions):
        return None
    revision.conditions = [*others, words]
    return tagged(revision)


def is_retired(revision: run_v2.Revision) -> bool:
    return any(
        one.type_ == "Active" and one.revision_reason == run_v2.Condition.RevisionReason.RETIRED
        for one in revision.conditions
    )


def tagged(message: Any) -> Any:
    """A service or a revision, with the fingerprint of what it says."""
    message.etag = ""
    digest = hashlib.sha256(type(message).serialize(message)).digest()
    message.etag = f'"{base64.b64encode(digest[:18]).decode()}"'
    return message
