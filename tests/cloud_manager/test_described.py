"""The manager answers as its OpenAPI document says, whatever it is sent."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from cloud_manager.deployment import Phase
from tests.cloud_manager.face import Face, served
from tests.described import AMOUNTS, keeps_its_word, operations, undescribed


@pytest.fixture(scope="module")
def face() -> Iterator[Face]:
    with served() as face:
        face.know(Phase.RUNNING)
        face.parts.streams.close()  # they would never end
        yield face


@pytest.mark.parametrize("amount", AMOUNTS)
def test_no_call_is_answered_in_a_way_that_is_not_described(face: Face, amount: int) -> None:
    """Whoever writes a client by /docs must not meet a status, a type or a shape that is not there, nor a 500."""
    known = {"user_id": "7", "project_id": "42"}
    asked = [keeps_its_word(operation, amount, known) for operation in operations(face.url)]
    assert len(asked) > 20


def test_every_call_is_described_with_examples(face: Face) -> None:
    """An example is what a reader of /docs copies."""
    assert undescribed(face.app.openapi()) == []
