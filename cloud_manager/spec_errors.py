"""What the schema finds wrong in a translated tree, in words for the person who wrote the file. Pure."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from functools import cache
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from cloud_manager import spec_expectation
from cloud_manager.deployment_spec import DeploymentSpec
from cloud_manager.dialect import ALIASES
from cloud_manager.finding import Finding, join, quoted
from cloud_manager.yaml_source import Mapping, Node, Position, Scalar, Sequence

_NUMBER_WANTED = frozenset(("int_type", "float_type", "int_from_float"))
_SUGGESTED = 50
"""So many unknown keys get a suggestion; a file with more of them is no deployment.yaml, and searching costs time."""


def findings_of(error: ValidationError, root: Mapping, file: str) -> list[Finding]:
    """One finding for each place that is wrong, however many alternatives the schema tried there."""
    found: dict[str, Finding] = {}
    unknown = 0
    for detail in error.errors(include_url=False):
        if detail["type"] == "extra_forbidden":
            unknown += 1
            finding = _unknown(detail["loc"], root, file, suggest=unknown <= _SUGGESTED)
        else:
            finding = _wrong(detail, root, file)
        found.setdefault(finding.path, finding)
    return list(found.values())


def _unknown(loc: tuple[int | str, ...], root: Mapping, file: str, *, suggest: bool) -> Finding:
    *section, key = loc
    node, path = _walk(root, tuple(section))
    name = str(key)
    place = node.entries[name].position if isinstance(node, Mapping) and name in node.entries else node.position
    hint = _suggestion(path, name) if suggest else ""
    return Finding(file, place.line, place.column, join(path, name), f"unknown key{hint}")


def _suggestion(path: str, name: str) -> str:
    if len(name) > 64:
        return ""
    known = known_keys()
    section = _without_indexes(path)
    elsewhere = [other for other, keys in known.items() if name in keys and other != section]
    if elsewhere:
        return f"; it belongs {_under(elsewhere[0])}"
    here = known.get(section, ())
    close = difflib.get_close_matches(name.lower(), here, n=1)
    if close:
        return f"; did you mean `{close[0]}`?"
    for other, keys in known.items():
        close = difflib.get_close_matches(name.lower(), keys, n=1, cutoff=0.8)
        if close:
            return f"; did you mean `{close[0]}`, {_under(other)}?"
    return f"; known here: {', '.join(here)}" if here else ""


def _under(section: str) -> str:
    return f"under {section}" if section else "at the top of the file"


@cache
def known_keys() -> dict[str, tuple[str, ...]]:
    """Section (dotted, the top is '') -> keys that may be written there, TANGO's spellings at the end."""
    return {path: (*keys, *ALIASES.get(path, ())) for path, keys in _sections(DeploymentSpec, "")}


def _sections(model: type[BaseModel], path: str) -> Iterator[tuple[str, tuple[str, ...]]]:
    yield path, tuple(model.model_fields)
    for name, field in model.model_fields.items():
        for part in _models(field.annotation):
            yield from _sections(part, join(path, name))


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in get_args(annotation):
        yield from _models(part)


def _wrong(detail: ErrorDetails, root: Mapping, file: str) -> Finding:
    if detail["type"] == "missing":
        *section, key = detail["loc"]
        node, path = _walk(root, tuple(section))
        path = join(path, str(key))
        return _at(node.position, path, f"is missing; {spec_expectation.of(path, DeploymentSpec)} is expected", file)
    node, path = _walk(root, detail["loc"])
    if detail["type"] == "value_error":
        return _at(node.position, path, str(detail["ctx"]["error"]), file)
    if detail["type"] == "string_too_long":
        return _at(node.position, path, f"longer than {detail['ctx']['max_length']:,} characters", file)
    if detail["loc"][-1:] == ("[key]",):
        key = str(detail["loc"][-2])
        return _at(node.position, path, f"{quoted(key)} is no name of a variable; use letters, digits and `_`", file)
    expected = spec_expectation.of(path, DeploymentSpec)
    return _at(node.position, path, f"expected {expected}, got {describe(node)}{_mend(detail, node)}", file)


def _mend(detail: ErrorDetails, node: Node) -> str:
    if not isinstance(node, Scalar) or isinstance(node.value, str) or node.value is None:
        return ""
    if detail["type"] == "string_type":
        return f'; put it in quotes: "{node.text[:40]}"'
    return "; write an ordinary decimal number" if node.trap and detail["type"] in _NUMBER_WANTED else ""


def _at(place: Position, path: str, message: str, file: str) -> Finding:
    return Finding(file, place.line, place.column, path, message)


def _walk(root: Node, loc: tuple[int | str, ...]) -> tuple[Node, str]:
    """The node at `loc`, or the last one on the way there (the schema adds names of its alternatives), and its path."""
    node, path = root, ""
    for step in loc:
        if isinstance(node, Mapping) and isinstance(step, str) and step in node.entries:
            node, path = node.entries[step].value, join(path, step)
        elif isinstance(node, Sequence) and isinstance(step, int) and step < len(node.items):
            node, path = node.items[step], f"{path}[{step}]"
        else:
            break
    return node, path


def _without_indexes(path: str) -> str:
    return path.split("[", maxsplit=1)[0] if path.startswith("deploy.data") else path


def describe(node: Node) -> str:
    """What stands there; where YAML reads another thing than is written, that too."""
    if isinstance(node, Mapping):
        return "a mapping"
    if isinstance(node, Sequence):
        return "a list"
    if isinstance(node.value, str):
        return quoted(node.text)
    if node.value is None:
        return "nothing"
    read_as = f"the {'word' if isinstance(node.value, bool) else 'number'} {str(node.value).lower()[:40]}"
    return f"{node.text[:40]}, which YAML reads as {read_as}" if node.trap else read_as
