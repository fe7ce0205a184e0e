"""What we asked of a service, in few words that lie beside it, so that a change by others is seen by whoever looks.

As `kubectl apply` does with `last-applied-configuration`: an annotation says what was asked. It holds a short hash for
each trait, for what was left to Google (a default that it fills in, or may change) is nobody's change. Pure.
https://kubernetes.io/docs/tasks/manage-kubernetes-objects/declarative-config/#how-apply-calculates-differences-and-merges-changes
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

from google.cloud import run_v2

ASKED = "cloud-deploy-asked"
"""The annotation. Annotations of services are anybody's: https://cloud.google.com/run/docs/reference/rest/v2/projects.locations.services"""

_SUFFIXES = {"": 1.0, "m": 0.001, "k": 1e3, "M": 1e6, "G": 1e9, "Ki": 2.0**10, "Mi": 2.0**20, "Gi": 2.0**30}
_QUANTITY = re.compile(r"([0-9]+(?:\.[0-9]+)?)(m|k|M|G|Ki|Mi|Gi)?")


def asked(wish: run_v2.Service) -> str:
    """The annotation's value for a service that is to be."""
    rows = {name: _short(value) for name, value in _traits(wish).items() if value is not None}
    return json.dumps(rows, sort_keys=True, separators=(",", ":"))


def differences(there: run_v2.Service) -> tuple[str, ...]:
    """What is no longer as it was asked, e.g. `its environment was changed`; nothing where nobody knows."""
    present = _traits(there)
    known = _read(there.annotations.get(ASKED, ""))
    wrong = [name for name, value in known.items() if name in present and _short(present[name]) != value]
    return tuple(f"its {name} was changed" for name in sorted(wrong))


def _traits(service: run_v2.Service) -> dict[str, Any]:
    """None: left to Google, so nobody's change."""
    template = service.template
    first = template.containers[0] if template.containers else run_v2.Container()
    return {
        "number of containers": len(template.containers),
        "image": first.image,
        "command": [list(first.command), list(first.args)],
        "working folder": first.working_dir,
        "environment": sorted(map(_variable, first.env)),
        "port": [port.container_port for port in first.ports],
        "size": {name: _amount(text) for name, text in first.resources.limits.items()},
        "volumes": [_volumes(template.volumes), sorted([one.name, one.mount_path] for one in first.volume_mounts)],
        "startup probe": _probe(first.startup_probe) if first.startup_probe else None,
        "liveness probe": _probe(first.liveness_probe) if first.liveness_probe else "none",
        "least number of instances": template.scaling.min_instance_count,
        "greatest number of instances": template.scaling.max_instance_count or None,
        "concurrency": template.max_instance_request_concurrency or None,
        "timeout": template.timeout.total_seconds() if template.timeout else None,
        "service account": template.service_account or None,
        "GPU": template.node_selector.accelerator if template.node_selector else "none",
        "access": service.invoker_iam_disabled,
    }


def _variable(one: run_v2.EnvVar) -> list[str]:
    secret = one.value_source.secret_key_ref if one.value_source else None
    return [one.name, one.value, *([secret.secret.rsplit("/", 1)[-1], secret.version] if secret else [])]


def _volumes(volumes: Iterable[run_v2.Volume]) -> list[list[str]]:
    """By name and what is behind it."""
    return sorted(
        [one.name, one.gcs.bucket if one.gcs else "", *([one.nfs.server, one.nfs.path] if one.nfs else [])]
        for one in volumes
    )


def _probe(probe: run_v2.Probe) -> list[Any]:
    path = probe.http_get.path if probe.http_get else ""
    return [path, probe.timeout_seconds, probe.period_seconds, probe.failure_threshold]


def _amount(text: str) -> float | str:
    """`1000m` is `1`: https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/quantity/"""
    match = _QUANTITY.fullmatch(text)
    return round(float(match[1]) * _SUFFIXES[match[2] or ""], 6) if match else text


def _read(text: str) -> Mapping[str, str]:
    """Nothing where there is no annotation (a service of an older release), or not one of ours."""
    try:
        value = json.loads(text)
    except ValueError:
        return {}
    return {str(name): str(short) for name, short in value.items()} if isinstance(value, dict) else {}


def _short(value: Any) -> str:
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:8]
