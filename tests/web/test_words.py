"""Both languages say everything, and the same."""

from __future__ import annotations

import re
import string
from pathlib import Path

import pytest

from image_builder.web.languages import choose
from image_builder.web.words import read_words

WEB = Path(__file__).parents[2] / "image_builder" / "web"
ENTRIES = read_words().entries
_USED = re.compile(r"""\b(?:t|say)\(\s*f?["']([a-z_]+(?:\.[a-z_{}]+)+)["'](?!\s*~)""")
_BUILT = re.compile(r"""\bt\(\s*["']([a-z_]+\.[a-z_.]*)["']\s*~""")
_JINJA = re.compile(r"\{[{%#].*?[%}#]\}", re.DOTALL)
_ATTRIBUTES = re.compile(r"\{% macro about.*?endmacro %\}", re.DOTALL)
_MARKUP = re.compile(r"<(script|style|pre)\b.*?</\1>|<[^>]*>|&\w+;", re.DOTALL)
_SAME_IN_BOTH = {"deployment", "yaml", "cpu", "gpu", "python", "SBOM"}


def holes(text: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(text) if name}


@pytest.mark.parametrize("key", ENTRIES)
def test_both_languages_fill_in_the_same(key: str) -> None:
    entry = ENTRIES[key]
    assert entry["en"].strip() and entry["ko"].strip()
    assert holes(entry["en"]) == holes(entry["ko"]) >= holes(entry.get("en_one", ""))


def test_what_pages_say_is_in_the_catalogue() -> None:
    """A missing entry would be a page that cannot be shown."""
    for file in [*WEB.glob("templates/*.html"), *WEB.glob("*.py")]:
        text = file.read_text()
        for key in set(_USED.findall(text)) - {"page.key"}:  # which a docstring gives as an example
            shape = re.compile(re.sub(r"\\{[^}]*\\}", r"[a-z_]+", re.escape(key)))
            assert any(shape.fullmatch(each) for each in ENTRIES), f"{file.name}: {key}"
        for beginning in _BUILT.findall(text):
            assert any(each.startswith(beginning) for each in ENTRIES), f"{file.name}: {beginning}…"


def test_no_template_says_a_word_by_itself() -> None:
    """English in a template would be English for Koreans."""
    for file in WEB.glob("templates/*.html"):
        words = set(
            re.findall(r"[A-Za-z]{3,}", _MARKUP.sub(" ", _JINJA.sub(" ", _ATTRIBUTES.sub(" ", file.read_text()))))
        )
        assert words <= _SAME_IN_BOTH, f"{file.name}: {words - _SAME_IN_BOTH}"


@pytest.mark.parametrize(
    ("chosen", "accepted", "language"),
    [
        (None, "", "en"),
        (None, "ko-KR,ko;q=0.9,en;q=0.8", "ko"),
        (None, "en-US,en;q=0.9,ko;q=0.8", "en"),
        (None, "fr,ko;q=0.3", "ko"),
        (None, "ko;q=0", "en"),
        (None, "ko;q=broken", "en"),
        ("en", "ko", "en"),
        ("ko", "en", "ko"),
        ("xx", "ko", "ko"),
    ],
)
def test_a_visitor_reads_his_own_language(chosen: str | None, accepted: str, language: str) -> None:
    assert choose(chosen, accepted) == language
