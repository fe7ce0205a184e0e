"""What the schema expects at a path, in plain words: `a whole number 1-65535`. Pure."""

from __future__ import annotations

import re
from functools import cache
from typing import Any

from pydantic import BaseModel

_STEP = re.compile(r"[^.\[\]]+")
_IN_WORDS = {
    "deploy.type": "the target, e.g. local, docker or gcp-cloudrun",
    "deploy.service_name": "at most 63 letters, digits, `.`, `_` or `-`, with a letter or digit at both ends",
    "deploy": "a section with `type` and `entrypoint`",
    "deploy.health.path": "a path that begins with `/`",
    "deploy.data.mount": "a folder that begins with `/`",
    "build.components.custom_packages.apt": "a list of Debian packages",
    "build.components.custom_packages.apt.0": "a Debian package, `name` or `name=version`, in lower case",
    "deploy.entrypoint": "a list of words, e.g. [main.py, --fast]",
    "deploy.pre_exec": "a list of commands, e.g. [[convert.py, a], [check.py]]",
    "deploy.secrets.*": "the name of a secret, `name` or `name:version`",
    "deploy.resources.memory": "a size in MB, or with a unit such as 512Mi or 8Gi",
}


def of(path: str, model: type[BaseModel]) -> str:
    """Words for the value at a dotted path, e.g. `deploy.network.service_host_port`."""
    steps = tuple("0" if step.isdigit() else step for step in _STEP.findall(path))
    for key in (".".join(steps), ".".join((*steps[:-1], "*")), ".".join(step for step in steps if step != "0")):
        if key in _IN_WORDS and (key.endswith(".0") or steps[-1:] != ("0",)):
            return _IN_WORDS[key]
    schema = _schema(model)
    return _words(_at(schema, steps, schema["$defs"]), schema["$defs"])


@cache
def _schema(model: type[BaseModel]) -> dict[str, Any]:
    return model.model_json_schema()


def _at(schema: dict[str, Any], steps: tuple[str, ...], defs: dict[str, Any]) -> dict[str, Any]:
    for step in steps:
        schema = _below(schema, step, defs)
    return schema


def _below(schema: dict[str, Any], step: str, defs: dict[str, Any]) -> dict[str, Any]:
    for option in _options(schema, defs):
        if step == "0" and "items" in option:
            return dict(option["items"])
        if step in option.get("properties", {}):
            return dict(option["properties"][step])
        values = option.get("additionalProperties") or next(iter(option.get("patternProperties", {}).values()), None)
        if isinstance(values, dict):
            return values
    return {}


def _options(schema: dict[str, Any], defs: dict[str, Any]) -> list[dict[str, Any]]:
    """The alternatives of a schema, references followed, without `null`."""
    if "$ref" in schema:
        schema = defs[schema["$ref"].rsplit("/", 1)[-1]]
    options = [part for option in schema.get("anyOf", ()) for part in _options(option, defs)]
    return [option for option in options or [schema] if option.get("type") != "null"]


def _words(schema: dict[str, Any], defs: dict[str, Any]) -> str:
    return " or ".join(dict.fromkeys(_word(option) for option in _options(schema, defs)))


def _word(schema: dict[str, Any]) -> str:
    if "enum" in schema:
        return " or ".join(str(value) for value in schema["enum"])
    if schema.get("type") in ("integer", "number"):
        kind = "a whole number" if schema["type"] == "integer" else "a number"
        return f"{kind}{_range(schema)}"
    words = {"string": "text", "boolean": "true or false", "array": "a list", "object": "a mapping"}
    return words.get(str(schema.get("type")), "another value")


def _range(schema: dict[str, Any]) -> str:
    low, high = schema.get("minimum"), schema.get("maximum")
    if low is not None and high is not None:
        return f" {low}-{high}"
    if "exclusiveMinimum" in schema:
        return f" above {schema['exclusiveMinimum']}{f' and up to {high:g}' if high is not None else ''}"
    return f" of at least {low}" if low is not None else ""
