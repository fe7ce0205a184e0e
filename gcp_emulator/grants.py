"""What the account may do and which APIs the project has enabled: everything and all, until something is taken away.

Kept in the state. The control API takes permissions away and gives them back; so do `services:enable` and `:disable`.
"""

from __future__ import annotations

from fnmatch import fnmatchcase

from google.rpc import error_details_pb2
from pydantic import BaseModel, ConfigDict, Field

from gcp_emulator.policies import Policies
from gcp_emulator.run_errors import Refused
from gcp_emulator.state import State

# https://cloud.google.com/apis/docs/getting-started#enabling_apis
APIS = {
    "artifactregistry.googleapis.com": "Artifact Registry API",
    "cloudbuild.googleapis.com": "Cloud Build API",
    "cloudresourcemanager.googleapis.com": "Cloud Resource Manager API",
    "iam.googleapis.com": "Identity and Access Management (IAM) API",
    "logging.googleapis.com": "Cloud Logging API",
    "run.googleapis.com": "Cloud Run Admin API",
    "secretmanager.googleapis.com": "Secret Manager API",
    "serviceusage.googleapis.com": "Service Usage API",
    "storage.googleapis.com": "Cloud Storage JSON API",
}
"""Those that the twin serves, as Google calls them in its errors."""


class Denial(BaseModel):
    """In both, `*` stands for anything."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    permission: str = Field(description="e.g. `run.services.create`.", examples=["run.services.create"])
    resource: str = Field(default="*", description="e.g. `projects/twin-project`, or the full name of a repository.")


class Grants:
    def __init__(self, state: State, project_number: str, account: str = "") -> None:
        """account: whose bindings give back what is denied; empty: nothing does."""
        self._table = state.json_table("grants")
        self._number = project_number
        self._member = f"serviceAccount:{account}"
        self._policies = Policies(state)

    @property
    def denials(self) -> list[Denial]:
        return [Denial.model_validate(row) for row in self._table.get("denials") or ()]

    def deny(self, denials: list[Denial]) -> None:
        """These and no others."""
        self._table.put("denials", [one.model_dump() for one in denials])

    def holds(self, permission: str, resource: str) -> bool:
        denied = any(
            fnmatchcase(permission, one.permission) and fnmatchcase(resource, one.resource) for one in self.denials
        )
        return not denied or self._policies.grants(self._member, permission, resource)

    def check(self, permission: str, resource: str) -> None:
        """Raises Refused, in the words of https://cloud.google.com/iam/docs/permission-error-messages."""
        if not self.holds(permission, resource):
            words = f"Permission '{permission}' denied on resource '//{resource}' (or it may not exist)."
            info = error_details_pb2.ErrorInfo(
                reason="IAM_PERMISSION_DENIED", domain="iam.googleapis.com", metadata={"permission": permission}
            )
            raise Refused("PERMISSION_DENIED", words, [info])

    @property
    def disabled(self) -> list[str]:
        return sorted(str(name) for name in self._table.get("disabled") or ())

    def disable(self, names: list[str]) -> None:
        """These are disabled, and no others."""
        self._table.put("disabled", sorted(set(names)))

    def check_enabled(self, api: str) -> None:
        """Raises Refused, as an API answers that is not enabled: https://google.aip.dev/193#errorinfo."""
        if api in self.disabled:
            raise self._disabled(api)

    def _disabled(self, api: str) -> Refused:
        consumer = f"projects/{self._number}"
        page = f"https://console.developers.google.com/apis/api/{api}/overview?project={self._number}"
        words = (
            f"{APIS.get(api, api)} has not been used in project {self._number} before or it is disabled. Enable it by"
            f" visiting {page} then retry. If you enabled this API recently, wait a few minutes for the action to"
            " propagate to our systems and retry."
        )
        info = error_details_pb2.ErrorInfo(
            reason="SERVICE_DISABLED", domain="googleapis.com", metadata={"consumer": consumer, "service": api}
        )
        return Refused("PERMISSION_DENIED", words, [info])


def api_of(name: str) -> str:
    """Of a host (`us-central1-run.googleapis.com`, `REGION-docker.pkg.dev`) or of a gRPC method's full name."""
    if name.endswith("docker.pkg.dev"):
        return "artifactregistry.googleapis.com"
    if name.endswith("run.googleapis.com"):
        return "run.googleapis.com"
    for part, api in (("cloudbuild", "cloudbuild"), ("logging", "logging"), (".run.", "run"), ("location", "run")):
        if name.startswith(("google.", "/google.")) and part in name:
            return f"{api}.googleapis.com"
    return name
