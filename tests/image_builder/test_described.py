"""The builder answers as its OpenAPI document says, whatever it is sent."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from tests.described import AMOUNTS, keeps_its_word, operations, undescribed
from tests.image_builder.service import serving


@pytest.mark.parametrize("amount", AMOUNTS)
def test_no_call_is_answered_in_a_way_that_is_not_described(tmp_path: Path, amount: int) -> None:
    """Whoever writes a client by /docs must not meet a status, a type or a shape that is not there, nor a 500."""
    with serving(tmp_path / "state") as service:
        service.go()
        build = service.wait(service.ask(source="known")["id"], "succeeded")
        digest, name = build["image"]["digest"], build["image"]["repository"]
        known = {"build_id": build["id"], "digest": digest, "name": name, "reference": digest}
        asked = [keeps_its_word(operation, amount, known) for operation in operations(service.url)]
        assert len(asked) > 12
        assert undescribed(httpx.get(f"{service.url}/openapi.json", trust_env=False).json()) == []
        assert "Traceback" not in service.log
