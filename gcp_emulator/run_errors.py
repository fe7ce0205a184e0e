"""Refusals of a gRPC service, as Google words them. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from google.rpc import error_details_pb2

from gcp_emulator.run_checks import Violation
from gcp_emulator.run_names import Name


@dataclass
class Refused(Exception):
    """A call ends so. `details` are messages of google.rpc, e.g. BadRequest."""

    code: str  # of google.rpc.Code
    message: str
    details: Sequence[Any] = field(default=())

    def __str__(self) -> str:
        return self.message


def invalid(request: str, violations: Sequence[Violation]) -> Refused:
    """As reported: https://github.com/GoogleCloudPlatform/magic-modules/pull/10173

    Args:
        request: the request message's name, e.g. `CreateServiceRequest`.
    """
    rows = [(f"Violation in {request}.{one.field}", one.description) for one in violations]
    message = "; ".join(f"{where}: {what}" for where, what in rows)
    listed = [error_details_pb2.BadRequest.FieldViolation(field=where, description=what) for where, what in rows]
    return Refused("INVALID_ARGUMENT", message, [error_details_pb2.BadRequest(field_violations=listed)])


def missing(name: Name) -> Refused:
    kind, resource = ("REVISION", name.revision) if name.revision else ("SERVICE", name.service)
    return Refused(
        "NOT_FOUND",
        f"Resource '{resource}' of kind '{kind}' in region '{name.region}' in project '{name.project}' does not exist.",
    )


def exists(service: str) -> Refused:
    return Refused("ALREADY_EXISTS", f"Resource '{service}' already exists.")


def revision_exists(revision: str) -> Refused:
    return Refused("ALREADY_EXISTS", f"Revision named '{revision}' with different configuration already exists.")


def conflict(resource: str, given: str, current: str) -> Refused:
    words = f"Conflict for resource '{resource}': version '{given}' was specified but current version is '{current}'."
    return Refused("ABORTED", words)


def denied(permission: str, resource: str) -> Refused:
    words = f"Permission '{permission}' denied on resource '{resource}' (or resource may not exist)."
    return Refused("PERMISSION_DENIED", words)


def no_region(region: str) -> Refused:
    return Refused("PERMISSION_DENIED", f"Permission denied on 'locations/{region}' (or it may not exist)")
