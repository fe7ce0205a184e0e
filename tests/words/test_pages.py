"""docs/errors is what the catalogues say today."""

from __future__ import annotations

from pathlib import Path

import pytest

from scripts.error_pages import pages

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("name", sorted(pages()))
def test_the_page_in_the_repository_is_current(name: str) -> None:
    """Run scripts/error_pages.py after a change of a codes.json."""
    assert (ROOT / "docs" / "errors" / name).read_text(encoding="utf-8") == pages()[name]
