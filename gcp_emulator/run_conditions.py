"""Conditions of services and revisions, and why a revision failed, in Google's words. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from urllib.parse import quote

from google.cloud.run_v2 import Condition

State = Condition.State
Reason = Condition.CommonReason
RevisionReason = Condition.RevisionReason

# google.rpc.Code of the operation that ends so, as reported
# (https://github.com/transparency-dev/tesseract/issues/413: 9; terraform-docs-samples pull request 269: 13)
NOT_FOUND, PERMISSION_DENIED, FAILED_PRECONDITION, ABORTED, INTERNAL, DEADLINE_EXCEEDED = 5, 7, 9, 10, 13, 4


@dataclass(frozen=True, slots=True)
class Failure:
    """`reason` is a name of CommonReason or of RevisionReason; `code` a google.rpc.Code."""

    reason: str
    message: str
    code: int = FAILED_PRECONDITION


def condition(
    kind: str, state: Condition.State, now: datetime, failure: Failure | None = None, message: str = ""
) -> Condition:
    made = Condition(type_=kind, state=state, message=failure.message if failure else message, last_transition_time=now)
    if state == State.CONDITION_FAILED:
        made.severity = Condition.Severity.ERROR
    if failure is not None:
        if failure.reason in RevisionReason.__members__:
            made.revision_reason = RevisionReason[failure.reason]
        elif failure.reason in Reason.__members__:
            made.reason = Reason[failure.reason]
        else:
            made.reason = Reason.UNKNOWN
    return made


def same_state(one: Condition, other: Condition) -> bool:
    return (one.state, one.message, one.reason, one.revision_reason) == (
        other.state,
        other.message,
        other.reason,
        other.revision_reason,
    )


def carried_on(new: Condition, before: Iterable[Condition]) -> Condition:
    """A condition that says what it said keeps its time."""
    for old in before:
        if old.type_ == new.type_ and same_state(old, new):
            return old
    return new


@dataclass(frozen=True, slots=True)
class Where:
    """What messages about a revision name."""

    project: str
    project_number: str
    service: str
    revision: str

    @property
    def logs_url(self) -> str:
        wanted = (
            'resource.type="cloud_run_revision"\n'
            f'resource.labels.service_name="{self.service}"\n'
            f'resource.labels.revision_name="{self.revision}"'
        )
        return (
            f"https://console.cloud.google.com/logs/viewer?project={self.project}&resource=cloud_run_revision/"
            f"service_name/{self.service}/revision_name/{self.revision}&advancedFilter={quote(wanted, safe='')}"
        )


_GUIDE = (
    "For more troubleshooting guidance, see https://cloud.google.com/run/docs/troubleshooting#container-failed-to-start"
)


def did_not_listen(where: Where, port: int) -> Failure:
    return Failure(
        "HEALTH_CHECK_CONTAINER_ERROR",
        "The user-provided container failed to start and listen on the port defined provided by the"
        f" PORT={port} environment variable within the allocated timeout. This can happen when the container port is"
        " misconfigured or if the timeout is too short. The health check timeout can be extended. Logs for this"
        f" revision might contain more information.\n\nLogs URL: {where.logs_url}\n{_GUIDE}",
    )


def failed_probe(where: Where) -> Failure:
    return Failure(
        "HEALTH_CHECK_CONTAINER_ERROR",
        "The user-provided container failed the configured startup probe checks. Logs for this revision might contain"
        f" more information.\n\nLogs URL: {where.logs_url}\n{_GUIDE}",
    )


def image_missing(image: str) -> Failure:
    return Failure("CONTAINER_MISSING", f"Image '{image}' not found.", NOT_FOUND)


def image_denied(where: Where, image: str) -> Failure:
    agent = f"service-{where.project_number}@serverless-robot-prod.iam.gserviceaccount.com"
    return Failure(
        "CONTAINER_PERMISSION_DENIED",
        f"Google Cloud Run Service Agent {agent} must have permission to read the image, {image}. Ensure that the"
        " provided container image URL is correct and that the above account has permission to access the image. If"
        " you just enabled the Cloud Run API, the permissions might take a few minutes to propagate.",
        PERMISSION_DENIED,
    )


def image_unusable(why: str) -> Failure:
    """Google says only the first sentence; the second is the twin's, for whoever must mend it."""
    return Failure("UNKNOWN", f"Container import failed. {why}", INTERNAL)


def secret_missing(where: Where, secret: str, version: str) -> Failure:
    name = f"projects/{where.project_number}/secrets/{secret}/versions/{version}"
    return Failure("SECRETS_ACCESS_CHECK_FAILED", f"Secret {name} was not found", NOT_FOUND)


def progress_deadline(where: Where) -> Failure:
    return Failure(
        "PROGRESS_DEADLINE_EXCEEDED",
        f"Revision '{where.revision}' did not become ready in time: timed out waiting for completion.",
        DEADLINE_EXCEEDED,
    )


def failure_for(reason: str, message: str, where: Where, *, image: str, port: int) -> Failure:
    """Of a reason that was asked for (a fault), with Google's words unless others are given."""
    known = {
        "HEALTH_CHECK_CONTAINER_ERROR": did_not_listen(where, port),
        "CONTAINER_MISSING": image_missing(image),
        "CONTAINER_PERMISSION_DENIED": image_denied(where, image),
        "SECRETS_ACCESS_CHECK_FAILED": secret_missing(where, "secret", "latest"),
        "PROGRESS_DEADLINE_EXCEEDED": progress_deadline(where),
    }
    found = known.get(reason, Failure(reason, f"The revision failed: {reason}.", INTERNAL))
    return Failure(reason, message, found.code) if message else found


CODES = {
    "HEALTH_CHECK_CONTAINER_ERROR": FAILED_PRECONDITION,
    "CONTAINER_MISSING": NOT_FOUND,
    "CONTAINER_PERMISSION_DENIED": PERMISSION_DENIED,
    "SECRETS_ACCESS_CHECK_FAILED": NOT_FOUND,
    "PROGRESS_DEADLINE_EXCEEDED": DEADLINE_EXCEEDED,
}
"""google.rpc.Code of the operation of a revision that failed so; INTERNAL for the others."""
