"""artifactregistry.googleapis.com: which repositories there are. Their images are at REGION-docker.pkg.dev.

https://cloud.google.com/artifact-registry/docs/reference/rest
"""

from __future__ import annotations

import re
from datetime import UTC, datetime

from gcp_emulator.clock import Clock
from gcp_emulator.grants import Grants
from gcp_emulator.management import Api, Asked, Handler, Json, not_found, tested
from gcp_emulator.policies import Policies
from gcp_emulator.rest_rules import Rule
from gcp_emulator.run_errors import Refused, denied
from gcp_emulator.settings import Settings
from gcp_emulator.state import State

_REGISTRY = "google.devtools.artifactregistry.v1.ArtifactRegistry."
_PLACE = "projects/*/locations/*"
_ONE = f"{_PLACE}/repositories/*"
_RULES = (
    Rule("GET", f"/v1/{{parent={_PLACE}}}/repositories", f"{_REGISTRY}ListRepositories"),
    Rule("POST", f"/v1/{{parent={_PLACE}}}/repositories", f"{_REGISTRY}CreateRepository"),
    Rule("GET", f"/v1/{{name={_ONE}}}", f"{_REGISTRY}GetRepository"),
    Rule("POST", f"/v1/{{resource={_ONE}}}:testIamPermissions", f"{_REGISTRY}TestIamPermissions"),
    Rule("GET", f"/v1/{{resource={_ONE}}}:getIamPolicy", f"{_REGISTRY}GetIamPolicy"),
    Rule("POST", f"/v1/{{resource={_ONE}}}:setIamPolicy", f"{_REGISTRY}SetIamPolicy"),
    Rule("GET", "/v1/{name=projects/*}/locations", "google.cloud.location.Locations.ListLocations"),
    Rule("GET", "/v1beta2/{name=projects/*}/locations", "google.cloud.location.Locations.ListLocations"),
)
_ID = re.compile(r"[a-z]([a-z0-9-]{0,61}[a-z0-9])?")
_FORMATS = ("DOCKER", "PYTHON", "NPM", "MAVEN", "APT", "YUM", "GENERIC", "GO", "KFP")


class Repositories:
    """Those of the settings are in every location, those that are created in theirs."""

    def __init__(self, settings: Settings, state: State, clock: Clock) -> None:
        self._settings = settings
        self._made = state.json_table("repositories")
        self._clock = clock

    def get(self, location: str, name: str) -> Json | None:
        row = self._made.get(f"{location}/{name}")
        if row is None and name in self._settings.repositories:
            row = {"format": "DOCKER", "created": 0.0}
        return self._shown(location, name, row) if row is not None else None

    def has(self, location: str, name: str) -> bool:
        """Whether images can be there."""
        found = self.get(location, name)
        return found is not None and found["format"] == "DOCKER"

    def list(self, location: str) -> list[Json]:
        made = {key.split("/", 1)[1] for key, _ in self._made.list(f"{location}/")}
        names = sorted({*self._settings.repositories, *made})
        return [found for name in names if (found := self.get(location, name)) is not None]

    def create(self, location: str, name: str, format: str, description: str) -> Json:
        if not _ID.fullmatch(name) or format not in _FORMATS:
            raise Refused("INVALID_ARGUMENT", "Request contains an invalid argument.")
        row = {"format": format, "created": self._clock.now(), "description": description}
        if self.get(location, name) is not None or not self._made.create(f"{location}/{name}", row):
            raise Refused("ALREADY_EXISTS", "the repository already exists")
        return self._shown(location, name, row)

    def _shown(self, location: str, name: str, row: Json) -> Json:
        time = datetime.fromtimestamp(row["created"], UTC).isoformat().replace("+00:00", "Z")
        return {
            "name": f"projects/{self._settings.project}/locations/{location}/repositories/{name}",
            "format": row["format"],
            "description": row.get("description", ""),
            "createTime": time,
            "updateTime": time,
            "mode": "STANDARD_REPOSITORY",
            "registryUri": f"{location}-docker.pkg.dev/{self._settings.project}/{name}",
        }


class RepositoryApi:
    def __init__(self, settings: Settings, grants: Grants, policies: Policies, repositories: Repositories) -> None:
        self._settings = settings
        self._grants = grants
        self._policies = policies
        self._repositories = repositories

    def api(self) -> Api:
        handlers: dict[str, Handler] = {
            f"{_REGISTRY}ListRepositories": self.list,
            f"{_REGISTRY}CreateRepository": self.create,
            f"{_REGISTRY}GetRepository": self.get,
            f"{_REGISTRY}TestIamPermissions": self.test,
            f"{_REGISTRY}GetIamPolicy": self.policy,
            f"{_REGISTRY}SetIamPolicy": self.set_policy,
            "google.cloud.location.Locations.ListLocations": self.locations,
        }
        return Api("artifactregistry.googleapis.com", _RULES, handlers)

    def get(self, asked: Asked) -> Json:
        location, name = self._place(asked.fields["name"], "artifactregistry.repositories.get")
        return self._found(location, name)

    def list(self, asked: Asked) -> Json:
        location, _ = self._place(asked.fields["parent"], "artifactregistry.repositories.list")
        return {"repositories": self._repositories.list(location)}

    def create(self, asked: Asked) -> Json:
        location, _ = self._place(asked.fields["parent"], "artifactregistry.repositories.create")
        name = asked.query.get("repositoryId") or ""
        made = self._repositories.create(
            location, name, str(asked.body.get("format") or ""), str(asked.body.get("description") or "")
        )
        kind = "type.googleapis.com/google.devtools.artifactregistry.v1.Repository"
        operation = f"{asked.fields['parent']}/operations/create-{name}"
        return {"name": operation, "done": True, "response": {"@type": kind, **made}}

    def test(self, asked: Asked) -> Json:
        location, name = self._place(asked.fields["resource"])
        self._found(location, name)
        return tested(self._grants, asked.fields["resource"], asked.body)

    def policy(self, asked: Asked) -> Json:
        return self._policies.get(self._resource(asked, "artifactregistry.repositories.getIamPolicy"))

    def set_policy(self, asked: Asked) -> Json:
        resource = self._resource(asked, "artifactregistry.repositories.setIamPolicy")
        return self._policies.set(resource, asked.body.get("policy") or {})

    def _resource(self, asked: Asked, permission: str) -> str:
        """Raises Refused: it is not there, or not to be changed."""
        name: str = self._found(*self._place(asked.fields["resource"], permission))["name"]
        return name

    def locations(self, asked: Asked) -> Json:
        """The one in which most happens: `gcloud artifacts repositories list` asks in each."""
        region = self._settings.region
        name = f"{asked.fields['name']}/locations/{region}"
        return {"locations": [{"name": name, "locationId": region}]}

    def _place(self, resource: str, permission: str = "") -> tuple[str, str]:
        """Location, and repository if it names one. Raises Refused."""
        parts = resource.split("/")
        if parts[1] not in (self._settings.project, self._settings.project_number):
            raise denied(permission or "artifactregistry.repositories.get", resource)
        if permission:
            self._grants.check(permission, resource)
        return parts[3], parts[5] if len(parts) > 5 else ""

    def _found(self, location: str, name: str) -> Json:
        found = self._repositories.get(location, name)
        if found is None:
            raise not_found()
        return found
