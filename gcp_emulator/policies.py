"""IAM policies of projects, repositories, service accounts and secrets, as they are read and written.

https://cloud.google.com/iam/docs/reference/rest/v1/Policy
"""

from __future__ import annotations

import hashlib
import json
from base64 import b64encode
from collections.abc import Iterator
from fnmatch import fnmatchcase
from typing import Any

from gcp_emulator.run_errors import Refused
from gcp_emulator.state import State

Json = dict[str, Any]
_ABOVE = "run.services.setIamPolicy"
# https://cloud.google.com/iam/docs/roles-permissions, as much of it as the product's own instructions grant
_ROLES: dict[str, tuple[str, ...]] = {
    "roles/artifactregistry.reader": ("artifactregistry.repositories.[dgl]*",),
    "roles/artifactregistry.writer": ("artifactregistry.repositories.*",),
    "roles/browser": ("resourcemanager.projects.get",),
    "roles/cloudbuild.builds.editor": ("cloudbuild.builds.*",),
    "roles/iam.serviceAccountUser": ("iam.serviceAccounts.actAs", "iam.serviceAccounts.get"),
    "roles/logging.viewer": ("logging.*",),
    "roles/run.admin": ("run.*",),
    "roles/run.developer": ("run.*",),
    "roles/secretmanager.viewer": ("secretmanager.secrets.get", "secretmanager.versions.get"),
    "roles/serviceusage.serviceUsageViewer": ("serviceusage.services.[gl]*", "serviceusage.quotas.get"),
}


class Policies:
    """By a resource's full name, with the project's id."""

    def __init__(self, state: State) -> None:
        self._table = state.json_table("policies")

    def get(self, resource: str, *usual: Json) -> Json:
        """usual: the bindings that it has until it is set."""
        row: Json = self._table.get(resource) or {"version": 1, "bindings": list(usual)}
        return {**row, "etag": _etag(row)}

    def set(self, resource: str, policy: Json, *usual: Json) -> Json:
        """Raises Refused: it was changed meanwhile."""
        now = self.get(resource, *usual)
        if policy.get("etag") not in (None, "", now["etag"]):
            raise Refused("ABORTED", "There were concurrent policy changes. Please retry the whole read-modify-write.")
        self._table.put(resource, {"version": 1, "bindings": policy.get("bindings") or []})
        return self.get(resource, *usual)

    def grants(self, member: str, permission: str, resource: str) -> bool:
        """Whether a role bound since, on the resource or on a project, holds the permission."""
        rows = (row for key, row in self._table.list() if key == resource or key.count("/") == 1)
        return any(_holds(role, permission) for row in rows for role in _roles(row, member))


def _roles(policy: Json, member: str) -> Iterator[str]:
    for binding in policy["bindings"]:
        if member in (binding.get("members") or ()):
            yield str(binding.get("role"))


def _holds(role: str, permission: str) -> bool:
    if permission == _ABOVE:
        return role == "roles/run.admin"
    return any(fnmatchcase(permission, pattern) for pattern in _ROLES.get(role, ()))


def _etag(row: Json) -> str:
    """Bytes, of which both alphabets of base64 write the same: clients read one and send the other."""
    return b64encode(hashlib.sha256(json.dumps(row, sort_keys=True).encode()).hexdigest()[:9].encode()).decode()
