"""What Google refuses, in words with which the person concerned can mend it."""

from __future__ import annotations

from typing import Any

import grpc
import pytest
from google.api_core import exceptions
from google.auth.exceptions import DefaultCredentialsError
from google.rpc import error_details_pb2

from cloud_manager.targets.cloud_run_refusals import Caller, no_credentials, refusal

CALLER = Caller("shop-1", "serviceAccount:cd@shop-1.iam.gserviceaccount.com")
GRANT = "gcloud projects add-iam-policy-binding shop-1 --member=serviceAccount:cd@shop-1.iam.gserviceaccount.com"
_KINDS = {
    "PERMISSION_DENIED": exceptions.PermissionDenied,
    "UNAUTHENTICATED": exceptions.Unauthenticated,
    "UNAVAILABLE": exceptions.ServiceUnavailable,
    "DEADLINE_EXCEEDED": exceptions.DeadlineExceeded,
    "ABORTED": exceptions.Aborted,
    "RESOURCE_EXHAUSTED": exceptions.ResourceExhausted,
    "FAILED_PRECONDITION": exceptions.FailedPrecondition,
    "INVALID_ARGUMENT": exceptions.InvalidArgument,
    "NOT_FOUND": exceptions.NotFound,
    "UNIMPLEMENTED": exceptions.MethodNotImplemented,
}


def said(status: str, words: str, reason: str = "", **metadata: str) -> exceptions.GoogleAPICallError:
    info = error_details_pb2.ErrorInfo(reason=reason, domain="googleapis.com", metadata=metadata)
    return _KINDS[status](words, error_info=info if reason else None)


ROWS: list[tuple[Any, str, bool, str]] = [
    (
        said("PERMISSION_DENIED", "Permission 'run.services.create' denied on resource 'x' (or it may not exist)."),
        "permission_denied",
        False,
        f"{GRANT} --role=roles/run.developer, then start again",
    ),
    (
        said("PERMISSION_DENIED", "Permission 'iam.serviceaccounts.actAs' denied on service account a@b"),
        "permission_denied",
        False,
        f"{GRANT} --role=roles/iam.serviceAccountUser, then start again",
    ),
    (
        said("PERMISSION_DENIED", "Permission 'run.services.setIamPolicy' denied on resource 'x'"),
        "permission_denied",
        False,
        f"{GRANT} --role=roles/run.admin, then start again",
    ),
    (
        said("PERMISSION_DENIED", "It is disabled.", "SERVICE_DISABLED", service="logging.googleapis.com"),
        "api_disabled",
        False,
        "gcloud services enable logging.googleapis.com --project=shop-1, then start again after a minute",
    ),
    (
        said("PERMISSION_DENIED", "This API requires billing.", "BILLING_DISABLED"),
        "billing_disabled",
        False,
        "gcloud billing projects link shop-1 --billing-account=ACCOUNT, then start again",
    ),
    (
        said("PERMISSION_DENIED", "Permission denied on 'locations/moon-1' (or it may not exist)"),
        "region_unknown",
        False,
        "write a region that `gcloud run regions list` shows",
    ),
    (said("UNAUTHENTICATED", "invalid"), "credentials_refused", False, "GOOGLE_APPLICATION_CREDENTIALS"),
    (
        said("UNAVAILABLE", "Getting metadata from plugin failed with error: ('invalid_grant: Invalid JWT', {})"),
        "credentials_refused",
        False,
        "gcloud auth application-default login",
    ),
    (said("UNAVAILABLE", "Getting metadata from plugin failed with error: timeout"), "google_unavailable", True, ""),
    (said("UNAVAILABLE", "failed to connect to all addresses"), "google_unavailable", True, ""),
    (said("DEADLINE_EXCEEDED", "Deadline Exceeded"), "google_unavailable", True, ""),
    (said("ABORTED", "Conflict for resource 'x': version '1' was specified"), "changed_meanwhile", True, ""),
    (
        said("RESOURCE_EXHAUSTED", "Quota exceeded for quota metric"),
        "quota_exceeded",
        True,
        "cloud.google.com/run/quotas",
    ),
    (said("FAILED_PRECONDITION", "Resource 'x' is being deleted."), "being_deleted", True, ""),
    (said("FAILED_PRECONDITION", "An organization policy forbids it"), "target_failed", False, "mend what it names"),
    (
        said("INVALID_ARGUMENT", "Max instances must be set to 3 or fewer\nQuota violated:\nCpuAlloc"),
        "quota_exceeded",
        False,
        "deploy.scaling.max_instances",
    ),
    (said("INVALID_ARGUMENT", "Violation in CreateServiceRequest"), "target_failed", False, "mend what it names"),
    (said("NOT_FOUND", "Project not found"), "not_found", False, "GCP_PROJECT (shop-1)"),
    (said("UNIMPLEMENTED", "no such method"), "target_failed", False, ""),
]


@pytest.mark.parametrize(("error", "code", "retryable", "fix"), ROWS, ids=lambda value: str(value)[:40])
def test_each_refusal_says_what_to_do(
    error: exceptions.GoogleAPICallError, code: str, retryable: bool, fix: str
) -> None:
    problem = refusal(error, "create service x", CALLER).problem
    assert (problem.code, problem.retryable) == (code, retryable)
    assert fix in problem.fix
    assert problem.cause.startswith("Google Cloud: create service x: ")
    assert "\n" not in problem.cause + problem.fix


def test_an_error_without_a_status_is_tried_again() -> None:
    assert refusal(exceptions.GoogleAPICallError("odd"), "list services", CALLER).problem.retryable


def test_whoever_has_no_credentials_is_told_how_to_get_some() -> None:
    problem = no_credentials(DefaultCredentialsError("Your default credentials were not found.")).problem
    assert (problem.code, problem.retryable) == ("no_credentials", False)
    assert "gcloud auth application-default login" in problem.fix


def test_every_status_of_grpc_has_words() -> None:
    for status in grpc.StatusCode:
        if status is not grpc.StatusCode.OK:
            error = exceptions.from_grpc_status(status, "words")
            assert refusal(error, "do it", CALLER).problem.fix, status
