"""What `gcloud run services` asks of Cloud Run: the older API, in the words of Knative. Reading and deleting. Pure.

https://cloud.google.com/run/docs/reference/rest/v1/namespaces.services
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from gcp_emulator.rest_rules import Rule

Json = dict[str, Any]
API = "serving.knative.dev/v1"
_SERVICES = f"/apis/{API}/namespaces/{{namespace}}/services"
_METHODS = "/google.cloud.run.v2.Services/"
_STATES = {"CONDITION_SUCCEEDED": "True", "CONDITION_FAILED": "False"}


@dataclass(frozen=True, slots=True)
class Asked:
    """method: of gRPC; fields: of its request; told: its answer in Knative's words."""

    method: str
    fields: dict[str, str]
    told: Callable[[Json], Json]


def asked(verb: str, host: str, path: str) -> Asked | None:
    """None for another call, or at a host that is no region's."""
    region = host.removesuffix("run.googleapis.com").removesuffix("-")
    for rule in _RULES if region else ():
        fields = rule.match(verb, path)
        if fields is not None:
            parent = f"projects/{fields['namespace']}/locations/{region}"
            own = {"name": f"{parent}/services/{fields['name']}"} if "name" in fields else {"parent": parent}
            return Asked(rule.method, own, _TOLD[rule.method])
    return None


def service(found: Json) -> Json:
    """Of a service of v2, as JSON has it."""
    _, project, _, region, _, name = found["name"].split("/")
    annotations = {
        "serving.knative.dev/creator": found.get("creator", ""),
        "serving.knative.dev/lastModifier": found.get("lastModifier", ""),
    }
    return {
        "apiVersion": API,
        "kind": "Service",
        "metadata": {
            "name": name,
            "namespace": project,
            "uid": found.get("uid", ""),
            "generation": int(found.get("generation", 0)),
            "labels": {**found.get("labels", {}), "cloud.googleapis.com/location": region},
            "annotations": annotations,
            "creationTimestamp": found.get("createTime"),
        },
        "spec": {"template": _template(found), "traffic": [_target(one) for one in found.get("traffic", [])]},
        "status": _status(found),
    }


def services(found: Json) -> Json:
    rows = [service(one) for one in found.get("services", [])]
    return {"apiVersion": API, "kind": "ServiceList", "metadata": {}, "items": rows}


def _template(found: Json) -> Json:
    template = found.get("template", {})
    labels, annotations = template.get("labels", {}), template.get("annotations", {})
    containers = [
        {key: value for key, value in one.items() if key in ("image", "command", "args", "ports", "resources", "env")}
        for one in template.get("containers", [])
    ]
    spec = {
        "containers": containers,
        "containerConcurrency": template.get("maxInstanceRequestConcurrency"),
        "serviceAccountName": template.get("serviceAccount"),
    }
    return {"metadata": {"labels": labels, "annotations": annotations}, "spec": spec}


def _target(found: Json) -> Json:
    latest = found.get("type", "").endswith("_LATEST")
    own = {"latestRevision": True} if latest else {}
    return {**own, "percent": found.get("percent", 0), "revisionName": found.get("revision", "")}


def _status(found: Json) -> Json:
    kinds = [found.get("terminalCondition", {}), *found.get("conditions", [])]
    return {
        "observedGeneration": int(found.get("observedGeneration", 0)),
        "conditions": [_condition(one) for one in kinds if one],
        "latestReadyRevisionName": found.get("latestReadyRevision", "").rpartition("/")[2],
        "latestCreatedRevisionName": found.get("latestCreatedRevision", "").rpartition("/")[2],
        "traffic": [_target(one) for one in found.get("trafficStatuses", [])],
        "url": found.get("uri", ""),
        "address": {"url": found.get("uri", "")},
    }


def _condition(found: Json) -> Json:
    return {
        "type": found.get("type", ""),
        "status": _STATES.get(found.get("state", ""), "Unknown"),
        "reason": found.get("revisionReason") or found.get("reason") or "",
        "message": found.get("message", ""),
        "lastTransitionTime": found.get("lastTransitionTime"),
    }


def _deleted(_: Json) -> Json:
    return {"kind": "Status", "status": "Success"}


_RULES = (
    Rule("GET", _SERVICES, f"{_METHODS}ListServices"),
    Rule("GET", f"{_SERVICES}/{{name}}", f"{_METHODS}GetService"),
    Rule("DELETE", f"{_SERVICES}/{{name}}", f"{_METHODS}DeleteService"),
)
_TOLD: dict[str, Callable[[Json], Json]] = {
    f"{_METHODS}ListServices": services,
    f"{_METHODS}GetService": service,
    f"{_METHODS}DeleteService": _deleted,
}
