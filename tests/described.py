"""A running service against its own OpenAPI document: whatever is sent, it answers as it says there.

`schemathesis` makes calls that fit the document and calls that do not, on the wire as a client would.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

import hypothesis
import pytest
import requests
import schemathesis
from hypothesis import HealthCheck
from hypothesis.errors import Unsatisfiable
from hypothesis.strategies import booleans
from schemathesis.checks import not_a_server_error
from schemathesis.generation.modes import GenerationMode
from schemathesis.schemas import APIOperation
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
AMOUNTS = [pytest.param(4, id="some"), pytest.param(300, id="many", marks=pytest.mark.long)]
"""Calls of each operation that fit, and as many that do not."""


def operations(url: str) -> Iterator[APIOperation]:
    """All that the service at `url` describes, each answer by its own status: `default` would excuse every one."""
    document = requests.get(f"{url}/openapi.json", timeout=20).json()
    for methods in document["paths"].values():
        for operation in methods.values():
            operation["responses"].pop("default", None)
    schema = schemathesis.openapi.from_dict(document)
    schema.config.update(base_url=url)
    for found in schema.get_all_operations():
        yield found.ok()


def keeps_its_word(operation: APIOperation, amount: int, known: Mapping[str, str]) -> None:
    """Raises what `schemathesis` has found: a 5xx, or a status, type or shape that is not described.

    known: parameters of paths that lead to something, which half of the calls have.
    """
    for mode in GenerationMode.POSITIVE, GenerationMode.NEGATIVE:
        with contextlib.suppress(Unsatisfiable):  # Nothing can be sent to it that would not fit.
            _ask(operation, mode, amount, known)


def _ask(operation: APIOperation, mode: GenerationMode, amount: int, known: Mapping[str, str]) -> None:
    @hypothesis.given(case=operation.as_strategy(generation_mode=mode), of_known=booleans())
    @hypothesis.settings(
        max_examples=amount, deadline=None, suppress_health_check=list(HealthCheck), report_multiple_bugs=False
    )
    def ask(case: schemathesis.Case, of_known: bool) -> None:
        if of_known:
            case.path_parameters.update({name: known[name] for name in case.path_parameters.keys() & known.keys()})
        case.call_and_validate(checks=CHECKS, timeout=20)

    ask()


def undescribed(document: dict[str, Any]) -> list[str]:
    """What a reader of /docs would miss: a summary, an example of an answer, an error."""
    found = []
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            name = f"{method} {path}"
            found += [] if operation.get("summary") else [f"{name}: no summary"]
            for status, answer in operation["responses"].items():
                contents = answer.get("content", {}).items()
                found += [
                    f"{name} {status}: no example of {kind}"
                    for kind, content in contents
                    if not _shown(content, document)
                ]
    return found


def _shown(content: dict[str, Any], document: dict[str, Any]) -> bool:
    schema = content.get("schema", {})
    schema = schema.get("items", schema)
    if "$ref" in schema:
        schema = document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    # A file has none; of what is put together, the parts have them.
    return any("example" in part or "examples" in part for part in (content, schema)) or any(
        word in str(schema) for word in ("$ref", "examples", "const")
    )
