"""cloudresourcemanager.googleapis.com and iam.googleapis.com: the project, its service accounts, who may do what.

https://cloud.google.com/resource-manager/reference/rest, https://cloud.google.com/iam/docs/reference/rest
"""

from __future__ import annotations

import re
import zlib

from gcp_emulator.grants import Grants
from gcp_emulator.management import Api, Asked, Handler, Json, not_found, tested
from gcp_emulator.policies import Policies
from gcp_emulator.rest_rules import Rule
from gcp_emulator.run_errors import Refused, denied
from gcp_emulator.settings import Settings
from gcp_emulator.state import State

_PROJECTS = "google.cloud.resourcemanager.v3.Projects."
_OLD = "google.cloudresourcemanager.v1.Projects."
_IAM = "google.iam.admin.v1.IAM."
_ACCOUNT = "projects/*/serviceAccounts/*"
_PROJECT_RULES = (
    Rule("GET", "/v3/{name=projects/*}", f"{_PROJECTS}GetProject"),
    Rule("POST", "/v3/{resource=projects/*}:testIamPermissions", f"{_PROJECTS}TestIamPermissions"),
    Rule("POST", "/v3/{resource=projects/*}:getIamPolicy", f"{_PROJECTS}GetIamPolicy"),
    Rule("GET", "/v1/projects/{project_id}", f"{_OLD}GetProject"),
    Rule("POST", "/v1/projects/{project_id}:testIamPermissions", f"{_OLD}TestIamPermissions"),
    Rule("POST", "/v1/projects/{project_id}:getIamPolicy", f"{_OLD}GetIamPolicy"),
    Rule("POST", "/v1/projects/{project_id}:setIamPolicy", f"{_OLD}SetIamPolicy"),
)
_ACCOUNT_RULES = (
    Rule("GET", f"/v1/{{name={_ACCOUNT}}}", f"{_IAM}GetServiceAccount"),
    Rule("GET", "/v1/{name=projects/*}/serviceAccounts", f"{_IAM}ListServiceAccounts"),
    Rule("POST", "/v1/{name=projects/*}/serviceAccounts", f"{_IAM}CreateServiceAccount"),
    Rule("POST", f"/v1/{{resource={_ACCOUNT}}}:testIamPermissions", f"{_IAM}TestIamPermissions"),
    Rule("POST", f"/v1/{{resource={_ACCOUNT}}}:getIamPolicy", f"{_IAM}GetIamPolicy"),
    Rule("POST", f"/v1/{{resource={_ACCOUNT}}}:setIamPolicy", f"{_IAM}SetIamPolicy"),
)
_ID = re.compile(r"[a-z][a-z0-9-]{4,28}[a-z0-9]")


class Projects:
    """The one project that there is."""

    def __init__(self, settings: Settings, grants: Grants, policies: Policies) -> None:
        self._settings = settings
        self._grants = grants
        self._policies = policies

    def api(self) -> Api:
        handlers: dict[str, Handler] = {
            f"{_PROJECTS}GetProject": self.get,
            f"{_PROJECTS}TestIamPermissions": self.test,
            f"{_PROJECTS}GetIamPolicy": self.policy,
            f"{_OLD}GetProject": self.get_old,
            f"{_OLD}TestIamPermissions": self.test,
            f"{_OLD}GetIamPolicy": self.policy,
            f"{_OLD}SetIamPolicy": self.set_policy,
        }
        return Api("cloudresourcemanager.googleapis.com", _PROJECT_RULES, handlers)

    def get(self, asked: Asked) -> Json:
        self._check("resourcemanager.projects.get", asked)
        project = self._settings.project
        return {
            "name": f"projects/{self._settings.project_number}",
            "projectId": project,
            "displayName": project,
            "state": "ACTIVE",
        }

    def get_old(self, asked: Asked) -> Json:
        self._check("resourcemanager.projects.get", asked)
        project, number = self._settings.project, self._settings.project_number
        return {"projectId": project, "projectNumber": number, "name": project, "lifecycleState": "ACTIVE"}

    def test(self, asked: Asked) -> Json:
        self._check("", asked)
        return tested(self._grants, f"projects/{self._settings.project}", asked.body)

    def policy(self, asked: Asked) -> Json:
        self._check("resourcemanager.projects.getIamPolicy", asked)
        return self._policies.get(f"projects/{self._settings.project}", self._owner())

    def set_policy(self, asked: Asked) -> Json:
        self._check("resourcemanager.projects.setIamPolicy", asked)
        policy = asked.body.get("policy") or {}
        return self._policies.set(f"projects/{self._settings.project}", policy, self._owner())

    def _owner(self) -> Json:
        return {"role": "roles/owner", "members": [f"serviceAccount:{self._settings.service_account}"]}

    def _check(self, permission: str, asked: Asked) -> None:
        """Google does not say of a project whether it is not there, or is not to be seen."""
        project = next(iter(asked.fields.values())).removeprefix("projects/")
        if project not in (self._settings.project, self._settings.project_number):
            words = (
                f"Permission '{permission or 'resourcemanager.projects.get'}' denied on resource"
                f" '//cloudresourcemanager.googleapis.com/projects/{project}' (or it may not exist)."
            )
            raise Refused("PERMISSION_DENIED", words)
        if permission:
            self._grants.check(permission, f"projects/{self._settings.project}")


class ServiceAccounts:
    """The two that the twin knows, and those that are created."""

    def __init__(self, settings: Settings, grants: Grants, policies: Policies, state: State) -> None:
        self._settings = settings
        self._grants = grants
        self._policies = policies
        self._made = state.json_table("service_accounts")

    def api(self) -> Api:
        handlers: dict[str, Handler] = {
            f"{_IAM}GetServiceAccount": self.get,
            f"{_IAM}ListServiceAccounts": self.listed,
            f"{_IAM}CreateServiceAccount": self.create,
            f"{_IAM}TestIamPermissions": self.test,
            f"{_IAM}GetIamPolicy": self.policy,
            f"{_IAM}SetIamPolicy": self.set_policy,
        }
        return Api("iam.googleapis.com", _ACCOUNT_RULES, handlers)

    def get(self, asked: Asked) -> Json:
        return self._shown(self._email(asked.fields["name"], "iam.serviceAccounts.get"))

    def listed(self, asked: Asked) -> Json:
        self._grants.check("iam.serviceAccounts.list", f"projects/{self._settings.project}")
        return {"accounts": [self._shown(email) for email in self._emails()]}

    def create(self, asked: Asked) -> Json:
        self._grants.check("iam.serviceAccounts.create", f"projects/{self._settings.project}")
        name = str(asked.body.get("accountId") or "")
        if not _ID.fullmatch(name):
            raise Refused("INVALID_ARGUMENT", f'The account ID "{name}" does not have a length between 6 and 30.')
        email = f"{name}@{self._settings.project}.iam.gserviceaccount.com"
        if email in self._emails():
            raise Refused("ALREADY_EXISTS", f"Service account {name} already exists within project.")
        self._made.put(email, {})
        return self._shown(email)

    def test(self, asked: Asked) -> Json:
        email = self._email(asked.fields["resource"], "iam.serviceAccounts.get")
        return tested(self._grants, self._name(email), asked.body)

    def policy(self, asked: Asked) -> Json:
        email = self._email(asked.fields["resource"], "iam.serviceAccounts.getIamPolicy")
        return self._policies.get(self._name(email))

    def set_policy(self, asked: Asked) -> Json:
        email = self._email(asked.fields["resource"], "iam.serviceAccounts.setIamPolicy")
        return self._policies.set(self._name(email), asked.body.get("policy") or {})

    def _emails(self) -> list[str]:
        known = {self._settings.service_account, self._settings.compute_account}
        return sorted({*known, *(email for email, _ in self._made.list())})

    def _email(self, name: str, permission: str) -> str:
        """Of `projects/PROJECT/serviceAccounts/EMAIL`; `-` is any project."""
        _, project, _, email = name.split("/")
        if project not in ("-", self._settings.project, self._settings.project_number):
            raise denied(permission, name)
        if email not in self._emails():
            raise not_found(f"Unknown service account {email}")
        return email

    def _name(self, email: str) -> str:
        return f"projects/{self._settings.project}/serviceAccounts/{email}"

    def _shown(self, email: str) -> Json:
        unique = f"1{zlib.crc32(email.encode()):020d}"
        return {
            "name": self._name(email),
            "projectId": self._settings.project,
            "uniqueId": unique,
            "email": email,
            "oauth2ClientId": unique,
        }
