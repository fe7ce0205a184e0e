"""deployment.yaml: from the file to a checked specification, or to everything that is wrong with it in one answer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import ValidationError

from cloud_manager import spec_checks, spec_schema, yaml_file
from cloud_manager.deployment_spec import DeploymentSpec, LoadedSpec
from cloud_manager.dialect import translate
from cloud_manager.errors import InvalidSpec
from cloud_manager.finding import Finding, join
from cloud_manager.spec_errors import findings_of
from cloud_manager.yaml_source import Mapping, Node, Scalar, Sequence, parse

__all__ = ["Finding", "json_schema", "load", "loads"]


def load(path: Path, *, display: str = "deployment.yaml") -> LoadedSpec:
    """Read and check a file; `display` is what it is called in messages and origins.

    Raises:
        NotFound: there is no such file.
        InvalidSpec: with `findings`; retryable if the file is being written just now.
    """
    return loads(yaml_file.read(path, display), display=display)


def loads(data: bytes, *, display: str = "deployment.yaml") -> LoadedSpec:
    """As `load`, of bytes that are at hand."""
    parsed = parse(_text(data, display), display)
    if parsed.root is None:
        raise InvalidSpec.found(parsed.findings)
    translated = translate(parsed.root, display)
    findings = [*parsed.findings, *translated.findings, *spec_checks.contradictions(translated.root, display)]
    spec = _validated(translated.root, display, findings)
    if findings or spec is None:
        raise InvalidSpec.found(findings)
    origins = {path: f"{display}:{line}:{column}" for path, line, column in _places(translated.root, "")}
    return LoadedSpec(spec, (*translated.notes, *spec_checks.assumptions(spec)), origins)


def json_schema() -> dict[str, Any]:
    """The JSON Schema for editors, TANGO's spellings included."""
    return spec_schema.json_schema()


def _text(data: bytes, display: str) -> str:
    if len(data) > yaml_file.LIMIT:
        size = f"the file has over {yaml_file.LIMIT:,} bytes, the limit (1 MiB)"
        raise InvalidSpec.found([Finding(display, 1, 1, "", size)], fix="Keep data and weights in files of their own.")
    try:
        return data.decode().removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        before = data[: error.start]
        line = before.count(b"\n") + 1
        column = len(before[before.rfind(b"\n") + 1 :].decode()) + 1
        message = f"not UTF-8: the byte 0x{data[error.start]:02x} at offset {error.start} (line {line})"
        raise InvalidSpec.found([Finding(display, line, column, "", message)], fix="Save the file as UTF-8.") from error


def _validated(root: Mapping, display: str, findings: list[Finding]) -> DeploymentSpec | None:
    """The specification, or None; what the schema finds is added, one finding for a place."""
    try:
        return DeploymentSpec.model_validate(_plain(root), strict=True)
    except ValidationError as error:
        known = {finding.path for finding in findings}
        findings += [finding for finding in findings_of(error, root, display) if finding.path not in known]
        return None


class _Trap:
    """Stands for a number that YAML reads out of `010` or `8:30`: no type of the schema takes it."""


def _plain(node: Node) -> object:
    if isinstance(node, Mapping):
        return {key: _plain(entry.value) for key, entry in node.entries.items()}
    if isinstance(node, Sequence):
        return tuple(_plain(item) for item in node.items)
    return _Trap() if node.trap and not isinstance(node.value, bool) else node.value


def _places(node: Node, path: str) -> list[tuple[str, int, int]]:
    here = [(path, node.position.line, node.position.column)] if path else []
    if isinstance(node, Scalar):
        return here
    if isinstance(node, Sequence):
        parts = [(f"{path}[{index}]", item) for index, item in enumerate(node.items)]
    else:
        parts = [(join(path, key), entry.value) for key, entry in node.entries.items()]
    return here + [row for name, part in parts for row in _places(part, name)]
