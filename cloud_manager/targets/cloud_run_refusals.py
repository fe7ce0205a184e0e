"""Google's errors in our words: what is wrong, and the command that mends it. Pure.

https://google.aip.dev/193, https://cloud.google.com/run/docs/reference/iam/roles
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from google.api_core import exceptions
from google.auth import exceptions as auth

from cloud_manager.errors import DeployError, NotFound, TargetError, Unavailable

_PERMISSION = re.compile(r"[Pp]ermission '?([a-z]+\.[A-Za-z]+\.[A-Za-z]+)'?")
_ROLES = (
    ("iam.serviceaccounts.actAs", "roles/iam.serviceAccountUser"),
    ("iam.serviceAccounts.actAs", "roles/iam.serviceAccountUser"),
    ("run.services.setIamPolicy", "roles/run.admin"),
    ("run.", "roles/run.developer"),
    ("logging.", "roles/logging.viewer"),
    ("artifactregistry.", "roles/artifactregistry.writer"),
    ("secretmanager.", "roles/secretmanager.viewer"),
    ("storage.", "roles/storage.objectViewer"),
)
_OVER = frozenset(("UNAVAILABLE", "DEADLINE_EXCEEDED", "INTERNAL", "UNKNOWN", "CANCELLED"))
_QUOTA = ("Quota violated", "quota", "Max instances must be set")


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks Google. member: as IAM writes it; empty: not known."""

    project: str
    member: str = ""

    def grant(self, role: str) -> str:
        member = self.member or "MEMBER"
        return f"gcloud projects add-iam-policy-binding {self.project} --member={member} --role={role}"


def status_of(error: exceptions.GoogleAPICallError) -> str:
    """e.g. `NOT_FOUND`."""
    return error.grpc_status_code.name if error.grpc_status_code is not None else "UNKNOWN"


def refusal(error: exceptions.GoogleAPICallError, doing: str, caller: Caller) -> DeployError:
    """Args:
    doing: e.g. `create service hello`.
    """
    status, words = status_of(error), _words(error)
    cause = f"Google Cloud: {doing}: {words or status}"
    passing = _passing(status, words)
    if passing is not None:
        return Unavailable(cause, passing[1], code=passing[0])
    match status:
        case "PERMISSION_DENIED":
            return _denied(error, cause, words, caller)
        case "UNAUTHENTICATED" | "UNAVAILABLE":
            return TargetError(cause, _LOG_IN, code="credentials_refused")
        case "NOT_FOUND":
            return NotFound(cause, f"check GCP_PROJECT ({caller.project}), the region, and what it names")
        case "INVALID_ARGUMENT" if any(word in words for word in _QUOTA):
            fix = "lower deploy.scaling.max_instances or deploy.resources, or ask for more: https://g.co/cloudrun/gpu-quota"
            return TargetError(cause, fix, code="quota_exceeded")
    return TargetError(cause, "mend what it names in deployment.yaml or in the project, and start again")


def _passing(status: str, words: str) -> tuple[str, str] | None:
    """(code, fix) of what may be over the next time."""
    # google-auth was asked for a token within the call: https://datatracker.ietf.org/doc/html/rfc6749#section-5.2
    refused = "Getting metadata from plugin failed" in words and ("invalid_grant" in words or "invalid_client" in words)
    if status in _OVER and not refused:
        return "google_unavailable", "nothing to do: it is tried again"
    if status == "ABORTED":
        return "changed_meanwhile", "nothing to do: it is tried again"
    if status == "RESOURCE_EXHAUSTED":
        fix = "it is tried again by itself; if it stays so, ask for more: https://cloud.google.com/run/quotas"
        return "quota_exceeded", fix
    if status == "FAILED_PRECONDITION" and "being deleted" in words:
        return "being_deleted", "nothing to do: it is tried again once that is over"
    return None


def no_credentials(error: auth.GoogleAuthError) -> DeployError:
    words = " ".join(str(error).split())
    return TargetError(f"Google Cloud: {words[:300].rstrip('.')}", _LOG_IN, code="no_credentials")


_LOG_IN = (
    "set GOOGLE_APPLICATION_CREDENTIALS to a key or a workload identity file that is valid, or run: "
    "gcloud auth application-default login; then start the manager anew"
)


def _denied(error: exceptions.GoogleAPICallError, cause: str, words: str, caller: Caller) -> DeployError:
    if error.reason == "SERVICE_DISABLED" or "has not been used in project" in words:
        service = (error.metadata or {}).get("service") or "run.googleapis.com"
        fix = f"gcloud services enable {service} --project={caller.project}, then start again after a minute"
        return TargetError(cause, fix, code="api_disabled")
    if error.reason == "BILLING_DISABLED":
        fix = f"gcloud billing projects link {caller.project} --billing-account=ACCOUNT, then start again"
        return TargetError(cause, fix, code="billing_disabled")
    if "on 'locations/" in words:
        return TargetError(cause, "write a region that `gcloud run regions list` shows", code="region_unknown")
    permission = found[1] if (found := _PERMISSION.search(words)) else ""
    role = next((role for prefix, role in _ROLES if permission.startswith(prefix)), "roles/run.developer")
    return TargetError(cause, f"{caller.grant(role)}, then start again", code="permission_denied")


def _words(error: exceptions.GoogleAPICallError) -> str:
    return " ".join(str(error.message or "").split())[:500].rstrip(" .")
