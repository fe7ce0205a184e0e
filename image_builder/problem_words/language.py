"""Which language is spoken: by `Accept-Language` over HTTP, by the locale in a terminal. English unless asked."""

from __future__ import annotations

from collections.abc import Sequence

ENGLISH, KOREAN = "en", "ko"
LANGUAGES = (ENGLISH, KOREAN)
_LONGEST = 1000  # Characters of a header that are read.


def preferred(accept: str) -> str:
    """Of an Accept-Language header: https://www.rfc-editor.org/rfc/rfc9110#section-12.5.4

    `*` and what is not spoken here count for nothing; of equals the one named first wins.
    """
    best, language = 0.0, ENGLISH
    for row in accept[:_LONGEST].split(","):
        tag, _, rest = row.partition(";")
        named = tag.strip().lower().partition("-")[0]
        quality = _quality(rest)
        if named in LANGUAGES and quality > best:
            best, language = quality, named
    return language


def _quality(parameter: str) -> float:
    name, _, value = parameter.strip().partition("=")
    if not name:
        return 1.0
    try:
        quality = float(value) if name.strip().lower() == "q" else 0.0
    except ValueError:
        return 0.0
    return quality if 0 <= quality <= 1 else 0.0


def of_locale(values: Sequence[str]) -> str:
    """Of LC_ALL, LC_MESSAGES and LANG, in this order: the first that is set counts, e.g. `ko_KR.UTF-8`.

    https://pubs.opengroup.org/onlinepubs/9699919799/basedefs/V1_chap08.html#tag_08_02
    """
    first = next((value for value in values if value), "")
    named = first.lower().replace("-", "_").partition(".")[0].partition("_")[0]
    return KOREAN if named == KOREAN else ENGLISH
