"""From the fields of a form to the text of a deployment.yaml, and from what is said of it back to the fields. Pure.

Texts of several things have one on each line; `NAME=value` for variables.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

Kind = Literal["text", "number", "words", "lines", "pairs", "switch"]
Tree = dict[str, Any]
"""Key -> a section of the same kind, a scalar as it is written, or a list of such scalars."""

_PLAIN = re.compile(r"[A-Za-z_/][A-Za-z0-9_./+@-]*")
_NOT_TEXT = frozenset(("null", "true", "false", "yes", "no", "on", "off", "y", "n"))
"""What YAML 1.1 reads as something else: https://yaml.org/type/"""
_NUMBER = re.compile(r"(0|[1-9][0-9]{0,17})(\.[0-9]{1,9})?")
_ESCAPES = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\t": "\\t", "\r": "\\r"}


@dataclass(frozen=True, slots=True)
class Field:
    """path: where it stands in the file."""

    name: str
    path: str
    kind: Kind = "text"


FIELDS = (
    Field("accelerator", "build.accelerator"),
    Field("base_image", "build.base_image"),
    Field("image_uri", "build.image_uri"),
    Field("packages", "build.components.libs", "lines"),
    Field("apt", "build.components.custom_packages.apt", "lines"),
    Field("target", "deploy.type"),
    Field("entrypoint", "deploy.entrypoint", "words"),
    Field("port", "deploy.network.service_container_port", "number"),
    Field("host_port", "deploy.network.service_host_port", "number"),
    Field("cpu", "deploy.resources.cpu", "number"),
    Field("memory", "deploy.resources.memory", "number"),
    Field("gpu", "deploy.resources.gpu", "number"),
    Field("env", "deploy.env", "pairs"),
    Field("secrets", "deploy.secrets", "pairs"),
    Field("min_instances", "deploy.scaling.min_instances", "number"),
    Field("max_instances", "deploy.scaling.max_instances", "number"),
    Field("concurrency", "deploy.scaling.concurrency", "number"),
    Field("health_path", "deploy.health.path"),
    Field("startup_seconds", "deploy.health.startup_seconds", "number"),
    Field("public", "deploy.public", "switch"),
    Field("region", "deploy.region"),
    Field("service_account", "deploy.service_account"),
    Field("timeout_seconds", "deploy.timeout_seconds", "number"),
    Field("weights", "optional.weight_file", "lines"),
)
"""In the order in which they are written."""

_OF_BUILDS = frozenset(("accelerator", "base_image", "packages", "apt", "entrypoint", "weights"))

START: Mapping[str, str] = {"python": "3.11", "entrypoint": "server.py", "port": "8080", "health_path": "/"}
"""What an empty form says."""


def yaml_of(values: Mapping[str, str]) -> str:
    """The text of the file; what is left empty is left out. Wrong values are written as they are: the file is judged
    as a whole, by whoever reads it.

    Args:
        values: of `FIELDS` by name, of `python`, and `prebuilt`: `on` leaves out what only a build needs.
    """
    tree: Tree = {}
    for field in FIELDS:
        if values.get("prebuilt") == "on" and field.name in _OF_BUILDS:
            continue
        written = _written(field, values.get(field.name, ""))
        if field.name == "packages":
            written = [*_interpreter(values), *(written or ())]
        if written:
            _put(tree, field.path.split("."), written)
    return "".join(f"{line}\n" for line in _lines(tree, ""))


def field_of(path: str) -> str | None:
    """The field in which something of the file's `path` is written, e.g. `packages` for `build.components.libs[2]`."""
    fits = [field for field in FIELDS if re.match(rf"{re.escape(field.path)}(?![\w])", path)]
    return max(fits, key=lambda field: len(field.path)).name if fits else None


def fields_below(path: str) -> tuple[str, ...]:
    """Names of the fields at or below a path, e.g. of `deploy.scaling`."""
    return tuple(field.name for field in FIELDS if f"{field.path}.".startswith(f"{path}."))


def quoted(text: str) -> str:
    """A scalar that every YAML reads as this very text, on one line."""
    if _PLAIN.fullmatch(text) and text.lower() not in _NOT_TEXT:
        return text
    return f'"{"".join(map(_escaped, text))}"'


def _escaped(mark: str) -> str:
    if mark in _ESCAPES:
        return _ESCAPES[mark]
    if mark.isprintable():
        return mark
    number = ord(mark)
    return f"\\x{number:02x}" if number < 0x100 else f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"


def _written(field: Field, value: str) -> Any:
    """None: nothing."""
    text = value.strip()
    return _WRITTEN[field.kind](text) if text else None


def _words(text: str) -> list[str]:
    """As a shell splits them; a quote that is not closed is a letter like others."""
    try:
        return shlex.split(text)
    except ValueError:
        return text.split()


def _pairs(text: str) -> dict[str, str]:
    rows = (line.partition("=") for line in text.splitlines() if line.strip())
    return {quoted(name.strip()): quoted(value.strip()) for name, _, value in rows}


_WRITTEN: Mapping[Kind, Callable[[str], Any]] = {
    "text": quoted,
    "number": lambda text: text if _NUMBER.fullmatch(text) else quoted(text),
    "switch": lambda text: "true" if text == "on" else None,
    "words": lambda text: [quoted(word) for word in _words(text)],
    "lines": lambda text: [quoted(line.strip()) for line in text.splitlines() if line.strip()],
    "pairs": _pairs,
}


def _interpreter(values: Mapping[str, str]) -> list[str]:
    python = values.get("python", "").strip()
    return [quoted(f"python=={python}")] if python else []


def _put(tree: Tree, path: Sequence[str], written: Any) -> None:
    for word in path[:-1]:
        tree = tree.setdefault(word, {})
    tree[path[-1]] = written


def _lines(tree: Tree, indent: str) -> Iterator[str]:
    for key, value in tree.items():
        if isinstance(value, dict):
            yield f"{indent}{key}:"
            yield from _lines(value, f"{indent}  ")
        elif isinstance(value, str):
            yield f"{indent}{key}: {value}"
        elif len(value) <= 4 and sum(map(len, value)) < 60:
            yield f"{indent}{key}: [{', '.join(value)}]"
        else:
            yield f"{indent}{key}:"
            yield from (f"{indent}  - {item}" for item in value)
