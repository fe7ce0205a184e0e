"""Which REST call means which gRPC method, and how its path becomes fields of the request. Pure.

https://github.com/googleapis/googleapis/blob/master/google/api/http.proto; the rules are those of the services' protos.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import cached_property

_VARIABLE = re.compile(r"\{(?P<name>[a-z_.]+)(?:=(?P<pattern>[^}]+))?\}")


@dataclass(frozen=True)
class Rule:
    """body: the field that the body is, `*` for the whole request, or empty."""

    verb: str
    template: str
    method: str
    body: str = ""

    def match(self, verb: str, path: str) -> dict[str, str] | None:
        """Fields (`service.name`) and their values, None for another call."""
        found = self._path.fullmatch(path) if verb == self.verb else None
        return dict(zip(self._names, found.groups(), strict=True)) if found else None

    @cached_property
    def _names(self) -> list[str]:
        return [variable["name"] for variable in _VARIABLE.finditer(self.template)]

    @cached_property
    def _path(self) -> re.Pattern[str]:
        pattern, end = "", 0
        for variable in _VARIABLE.finditer(self.template):
            pattern += re.escape(self.template[end : variable.start()])
            pattern += f"({_segments(variable['pattern'] or '*')})"
            end = variable.end()
        return re.compile(pattern + re.escape(self.template[end:]))


@dataclass(frozen=True)
class Matched:
    method: str
    body: str
    fields: dict[str, str] = field(default_factory=dict)


def match(rules: tuple[Rule, ...], verb: str, path: str) -> Matched | None:
    for rule in rules:
        fields = rule.match(verb, path)
        if fields is not None:
            return Matched(rule.method, rule.body, fields)
    return None


def _segments(pattern: str) -> str:
    parts = {"**": ".+", "*": "[^/:]+"}
    return "/".join(parts.get(part, re.escape(part)) for part in pattern.split("/"))


_PLACE = "projects/*/locations/*"
_SERVICE, _REVISION = f"{_PLACE}/services/*", f"{_PLACE}/services/*/revisions/*"
_OPERATION = f"{_PLACE}/operations/*"
_SERVICES, _REVISIONS = "/google.cloud.run.v2.Services/", "/google.cloud.run.v2.Revisions/"
_OPERATIONS = "/google.longrunning.Operations/"
_BUILDS = "/google.devtools.cloudbuild.v1.CloudBuild/"
_LOGGING = "/google.logging.v2.LoggingServiceV2/"
_LOCATIONS = "/google.cloud.location.Locations/"

RUN = (
    Rule("POST", f"/v2/{{parent={_PLACE}}}/services", f"{_SERVICES}CreateService", "service"),
    Rule("GET", f"/v2/{{parent={_PLACE}}}/services", f"{_SERVICES}ListServices"),
    Rule("GET", f"/v2/{{name={_SERVICE}}}", f"{_SERVICES}GetService"),
    Rule("PATCH", f"/v2/{{service.name={_SERVICE}}}", f"{_SERVICES}UpdateService", "service"),
    Rule("DELETE", f"/v2/{{name={_SERVICE}}}", f"{_SERVICES}DeleteService"),
    Rule("GET", f"/v2/{{resource={_SERVICE}}}:getIamPolicy", f"{_SERVICES}GetIamPolicy"),
    Rule("POST", f"/v2/{{resource={_SERVICE}}}:setIamPolicy", f"{_SERVICES}SetIamPolicy", "*"),
    Rule("POST", f"/v2/{{resource={_SERVICE}}}:testIamPermissions", f"{_SERVICES}TestIamPermissions", "*"),
    Rule("GET", f"/v2/{{parent={_SERVICE}}}/revisions", f"{_REVISIONS}ListRevisions"),
    Rule("GET", f"/v2/{{name={_REVISION}}}", f"{_REVISIONS}GetRevision"),
    Rule("DELETE", f"/v2/{{name={_REVISION}}}", f"{_REVISIONS}DeleteRevision"),
    Rule("GET", f"/v2/{{name={_PLACE}}}/operations", f"{_OPERATIONS}ListOperations"),
    Rule("GET", f"/v2/{{name={_OPERATION}}}", f"{_OPERATIONS}GetOperation"),
    Rule("DELETE", f"/v2/{{name={_OPERATION}}}", f"{_OPERATIONS}DeleteOperation"),
    Rule("POST", f"/v2/{{name={_OPERATION}}}:wait", f"{_OPERATIONS}WaitOperation", "*"),
    Rule("GET", "/v1/{name=projects/*}/locations", f"{_LOCATIONS}ListLocations"),
)
CLOUD_BUILD = (
    Rule("POST", "/v1/projects/{project_id}/builds", f"{_BUILDS}CreateBuild", "build"),
    Rule("GET", "/v1/projects/{project_id}/builds", f"{_BUILDS}ListBuilds"),
    Rule("GET", "/v1/projects/{project_id}/builds/{id}", f"{_BUILDS}GetBuild"),
    Rule("POST", "/v1/projects/{project_id}/builds/{id}:cancel", f"{_BUILDS}CancelBuild", "*"),
    Rule("POST", "/v1/projects/{project_id}/builds/{id}:retry", f"{_BUILDS}RetryBuild", "*"),
    Rule("POST", f"/v1/{{parent={_PLACE}}}/builds", f"{_BUILDS}CreateBuild", "build"),
    Rule("GET", f"/v1/{{parent={_PLACE}}}/builds", f"{_BUILDS}ListBuilds"),
    Rule("GET", f"/v1/{{name={_PLACE}/builds/*}}", f"{_BUILDS}GetBuild"),
    Rule("POST", f"/v1/{{name={_PLACE}/builds/*}}:cancel", f"{_BUILDS}CancelBuild", "*"),
    Rule("POST", f"/v1/{{name={_PLACE}/builds/*}}:retry", f"{_BUILDS}RetryBuild", "*"),
    Rule("GET", f"/v1/{{name={_PLACE}/defaultServiceAccount}}", f"{_BUILDS}GetDefaultServiceAccount"),
    Rule("GET", "/v1/{name=operations/**}", f"{_OPERATIONS}GetOperation"),
    Rule("POST", "/v1/{name=operations/**}:cancel", f"{_OPERATIONS}CancelOperation", "*"),
    Rule("GET", f"/v1/{{name={_OPERATION}}}", f"{_OPERATIONS}GetOperation"),
)
LOGGING = (
    Rule("POST", "/v2/entries:list", f"{_LOGGING}ListLogEntries", "*"),
    Rule("POST", "/v2/entries:write", f"{_LOGGING}WriteLogEntries", "*"),
)


def rules_of(host: str) -> tuple[Rule, ...]:
    """Those of the service at this host."""
    if host.endswith("run.googleapis.com"):
        return RUN
    return {"cloudbuild.googleapis.com": CLOUD_BUILD, "logging.googleapis.com": LOGGING}.get(host, ())
