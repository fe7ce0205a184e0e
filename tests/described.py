"""A running service against its own OpenAPI document: whatever is sent, it answers as it says there.

`schemathesis` makes calls that fit the document and calls that do not, on the wire as a client would.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping

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
AMOUNTS = [pytest.param(8, id="some"), pytest.param(300, id="many", marks=pytest.mark.long)]
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
