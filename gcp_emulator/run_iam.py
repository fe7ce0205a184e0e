"""google.iam.v1 on services: who may do what. The twin asks it one question only: may everybody invoke?

https://cloud.google.com/run/docs/securing/managing-access
"""

from __future__ import annotations

import hashlib
import re
from typing import Any

from google.iam.v1 import iam_policy_pb2, policy_pb2

from gcp_emulator.grpc_server import Method
from gcp_emulator.run_errors import Refused, missing
from gcp_emulator.run_project import Project
from gcp_emulator.run_store import RunStore

_EMPTY_ETAG = b"\x00\x20\x01"  # "ACAB": what Google gives for a policy that was never set
_MEMBER = re.compile(
    r"(user|serviceAccount|group|deleted:.+|principal(Set)?):.+|domain:.+|allUsers|allAuthenticatedUsers"
)
_ROLE = re.compile(r"(projects/[^/]+/|organizations/[^/]+/)?roles/[A-Za-z0-9._]+")
INVOKERS = ("roles/run.invoker", "roles/run.admin", "roles/owner", "roles/editor")


class Policies:
    def __init__(self, store: RunStore, project: Project) -> None:
        self._store = store
        self._project = project

    async def get(self, request: Any) -> Any:
        return self._of(request.resource, "run.services.getIamPolicy")[1]

    async def set(self, request: Any) -> Any:
        name, before = self._of(request.resource, "run.services.setIamPolicy")
        if request.policy.etag and request.policy.etag != before.etag:
            words = (
                "There were concurrent policy changes. Please retry the whole read-modify-write with exponential"
                " backoff."
            )
            raise Refused("ABORTED", words)
        _check(request.policy)
        policy = policy_pb2.Policy(version=max(1, request.policy.version), bindings=request.policy.bindings)
        policy.etag = hashlib.sha256(policy.SerializeToString() + before.etag).digest()[:9]
        self._store.put_policy(name, policy)
        return policy

    async def test(self, request: Any) -> Any:
        """The one account that there is holds them all."""
        self._of(request.resource, "run.services.getIamPolicy")
        return iam_policy_pb2.TestIamPermissionsResponse(permissions=request.permissions)

    def may_invoke(self, service: str, caller: str | None) -> bool:
        """Whether who has this e-mail address may; None: who does not say who he is."""
        policy = self._store.policy(service)
        rows = policy.bindings if policy is not None else ()
        names = {"allUsers"}
        if caller is not None:
            names |= {"allAuthenticatedUsers", f"serviceAccount:{caller}", f"user:{caller}"}
        return any(row.role in INVOKERS and names & set(row.members) for row in rows)

    def methods(self) -> dict[str, Method]:
        pb = iam_policy_pb2
        return {
            "GetIamPolicy": Method(self.get, pb.GetIamPolicyRequest, policy_pb2.Policy),
            "SetIamPolicy": Method(self.set, pb.SetIamPolicyRequest, policy_pb2.Policy),
            "TestIamPermissions": Method(self.test, pb.TestIamPermissionsRequest, pb.TestIamPermissionsResponse),
        }

    def _of(self, resource: str, permission: str) -> tuple[str, Any]:
        name = self._project.name(resource, permission, service=True)
        if self._store.service(str(name)) is None:
            raise missing(name)
        return str(name), self._store.policy(str(name)) or policy_pb2.Policy(etag=_EMPTY_ETAG)


def _check(policy: Any) -> None:
    for binding in policy.bindings:
        if not _ROLE.fullmatch(binding.role):
            raise Refused("INVALID_ARGUMENT", f"Role {binding.role} is not supported for this resource.")
        for member in binding.members:
            if not _MEMBER.fullmatch(member):
                raise Refused("INVALID_ARGUMENT", f"Invalid member: {member}.")
