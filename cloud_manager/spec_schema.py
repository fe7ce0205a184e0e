"""The JSON Schema that editors use: generated from the models, and widened to TANGO's spellings. Pure."""

from __future__ import annotations

from typing import Any

from cloud_manager.deployment_spec import DeploymentSpec
from cloud_manager.dialect import ALIASES
from cloud_manager.dialect_words import ACCELERATORS, ARCHITECTURES, NO_ARCHITECTURE

SCHEMA_ID = "https://github.com/ML-TANGO/TANGO/deploy_targets/cloud/deployment.schema.json"

_MODELS = {
    "build": "Build",
    "build.components.custom_packages": "CustomPackages",
    "deploy": "Deploy",
    "deploy.k8s": "K8s",
    "deploy.data": "DataVolume",
}
_TEXT = {"type": "string"}
_SCALAR = {"type": ["string", "number", "boolean"]}
_WORDS = {"type": "array", "items": _SCALAR}
_TEXTS = {"type": "array", "items": {"type": ["string", "array", "null"]}}
_VARIABLES = {"type": "array", "items": {"type": "object", "required": ["name", "value"]}}
_NUMERAL = {"type": "string", "pattern": "^[0-9]*$"}

# (model, key) -> what TANGO's tools write there besides what the model says
_WIDER: dict[tuple[str, str], list[dict[str, Any]]] = {
    ("Build", "architecture"): [{"enum": ["", *sorted({*ARCHITECTURES} | NO_ARCHITECTURE)]}],
    ("Build", "accelerator"): [{"enum": ["", *sorted(ACCELERATORS)]}],
    ("Build", "os"): [{"type": "number"}],
    ("Components", "libs"): [_TEXT, _TEXTS],
    ("CustomPackages", "apt"): [_TEXT, _TEXTS],
    ("CustomPackages", "pypi"): [_TEXT, _TEXTS],
    ("Deploy", "type"): [{"type": "string", "pattern": "^[A-Za-z0-9_-]*$"}],
    ("Deploy", "service_name"): [{"const": ""}],
    ("Deploy", "entrypoint"): [_TEXT, _WORDS],
    ("Deploy", "pre_exec"): [_TEXT, {"type": "array", "items": {"anyOf": [_TEXT, _WORDS]}}],
    ("Deploy", "env"): [{"type": "object", "additionalProperties": _SCALAR}, _VARIABLES],
    ("Deploy", "secrets"): [{"type": "object", "additionalProperties": _SCALAR}, _VARIABLES],
    ("Network", "service_host_port"): [_NUMERAL, {"const": 0}],
    ("Network", "service_container_port"): [_NUMERAL, {"const": 0}],
    ("Resources", "memory"): [_TEXT],
    ("Resources", "cpu"): [_TEXT],
    ("Resources", "gpu"): [_NUMERAL],
    ("OptionalFiles", "nn_file"): [{"const": ""}],
    ("OptionalFiles", "weight_file"): [{"const": ""}],
    ("OptionalFiles", "annotation_file"): [{"const": ""}],
    ("OptionalFiles", "model_file"): [{"const": ""}],
}


def json_schema() -> dict[str, Any]:
    """JSON Schema (draft 2020-12): what it refuses is refused here too, and what TANGO's tools write passes it."""
    schema = DeploymentSpec.model_json_schema()
    definitions: dict[str, Any] = schema["$defs"]
    for model in definitions.values():
        model["properties"] = {key: _or_nothing(value) for key, value in model.get("properties", {}).items()}
    for (name, key), more in _WIDER.items():
        _widen(definitions[name]["properties"], key, more)
    for path, aliases in ALIASES.items():
        properties = definitions[_MODELS[path]]["properties"]
        for alias, key in aliases.items():
            properties[alias] = {**properties[key], "description": f"TANGO's spelling of `{key}`."}
    definitions["Deploy"]["anyOf"] = [{"required": ["type"]}, {"required": ["k8s"]}]
    definitions["Deploy"].pop("required", None)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": SCHEMA_ID,
        **schema,
        "title": "deployment.yaml",
        "description": "How a program of TANGO becomes a running service.",
    }


def _or_nothing(value: dict[str, Any]) -> dict[str, Any]:
    """Every key may stand without a value."""
    described: dict[str, Any] = {key: value[key] for key in ("description", "default") if key in value}
    return {"anyOf": [value, {"type": "null"}], **described}


def _widen(properties: dict[str, Any], key: str, more: list[dict[str, Any]]) -> None:
    properties[key] = {**properties[key], "anyOf": [*properties[key]["anyOf"], *more]}
