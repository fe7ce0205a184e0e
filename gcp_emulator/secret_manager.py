"""secretmanager.googleapis.com: whether a secret is there, and who may read it. The values are files of `--secrets`.

https://cloud.google.com/secret-manager/docs/reference/rest
"""

from __future__ import annotations

from gcp_emulator.grants import Grants
from gcp_emulator.management import Api, Asked, Handler, Json, not_found
from gcp_emulator.policies import Policies
from gcp_emulator.rest_rules import Rule
from gcp_emulator.run_errors import denied
from gcp_emulator.run_launch import SecretMissing, Secrets
from gcp_emulator.settings import Settings

_MANAGER = "google.cloud.secretmanager.v1.SecretManagerService."
_SECRET = "projects/*/secrets/*"  # noqa: S105 - a pattern
_VERSION = "projects/*/secrets/*/versions/*"
_RULES = (
    Rule("GET", f"/v1/{{name={_SECRET}}}", f"{_MANAGER}GetSecret"),
    Rule("GET", f"/v1/{{name={_VERSION}}}", f"{_MANAGER}GetSecretVersion"),
    Rule("GET", f"/v1/{{resource={_SECRET}}}:getIamPolicy", f"{_MANAGER}GetIamPolicy"),
    Rule("POST", f"/v1/{{resource={_SECRET}}}:setIamPolicy", f"{_MANAGER}SetIamPolicy"),
)
ACCESSOR = "roles/secretmanager.secretAccessor"


class SecretManager:
    def __init__(self, settings: Settings, grants: Grants, policies: Policies) -> None:
        self._settings = settings
        self._grants = grants
        self._secrets = Secrets(settings.secrets)
        self._policies = policies

    def api(self) -> Api:
        handlers: dict[str, Handler] = {
            f"{_MANAGER}GetSecret": self.get,
            f"{_MANAGER}GetSecretVersion": self.version,
            f"{_MANAGER}GetIamPolicy": self.policy,
            f"{_MANAGER}SetIamPolicy": self.set_policy,
        }
        return Api("secretmanager.googleapis.com", _RULES, handlers)

    def get(self, asked: Asked) -> Json:
        name = self._name(asked.fields["name"], "secretmanager.secrets.get")
        return {"name": name, "replication": {"automatic": {}}}

    def version(self, asked: Asked) -> Json:
        secret, _, version = asked.fields["name"].partition("/versions/")
        name = self._name(secret, "secretmanager.versions.get")
        try:
            self._secrets.value(secret, version)
        except SecretMissing as error:
            raise not_found(f"Secret Version [{name}/versions/{version}] not found.") from error
        return {"name": f"{name}/versions/{'1' if version == 'latest' else version}", "state": "ENABLED"}

    def policy(self, asked: Asked) -> Json:
        name = self._name(asked.fields["resource"], "secretmanager.secrets.getIamPolicy")
        return self._policies.get(name, self._reader())

    def set_policy(self, asked: Asked) -> Json:
        name = self._name(asked.fields["resource"], "secretmanager.secrets.setIamPolicy")
        return self._policies.set(name, asked.body.get("policy") or {}, self._reader())

    def _reader(self) -> Json:
        """The default account of programs, until the policy says otherwise."""
        return {"role": ACCESSOR, "members": [f"serviceAccount:{self._settings.compute_account}"]}

    def _name(self, name: str, permission: str) -> str:
        """With the project's number, as Google answers. Raises Refused."""
        _, project, _, secret = name.split("/")
        if project not in (self._settings.project, self._settings.project_number):
            raise denied(permission, name)
        self._grants.check(permission, f"projects/{self._settings.project}/secrets/{secret}")
        full = f"projects/{self._settings.project_number}/secrets/{secret}"
        if not self._secrets.has(secret):
            raise not_found(f"Secret [{full}] not found.")
        return full
