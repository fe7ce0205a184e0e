"""Which of the two languages a visitor reads. Pure."""

from __future__ import annotations

from typing import Literal

Language = Literal["en", "ko"]

LANGUAGES: tuple[Language, ...] = ("en", "ko")


def choose(chosen: str | None, accepted: str) -> Language:
    """What was chosen by hand, else the best of `Accept-Language`, else English.

    https://www.rfc-editor.org/rfc/rfc9110#name-accept-language
    """
    for language in LANGUAGES:
        if chosen == language:
            return language
    best: tuple[float, Language] = (0.0, "en")
    for item in accepted.split(",")[:20]:
        tag, _, weight = item.partition(";")
        quality = _quality(weight)
        for language in LANGUAGES:
            if tag.strip().lower().split("-")[0] == language and quality > best[0]:
                best = (quality, language)
    return best[1]


def _quality(weight: str) -> float:
    name, _, value = weight.strip().partition("=")
    if not name:
        return 1.0
    try:
        return min(max(float(value), 0.0), 1.0) if name == "q" else 1.0
    except ValueError:
        return 0.0
