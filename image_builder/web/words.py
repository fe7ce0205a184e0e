"""Every string of the pages, in every language: `words/PAGE.toml`, both languages beside each other."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from image_builder.web.languages import LANGUAGES, Language

_FOLDER = Path(__file__).with_name("words")


class Words:
    """`[empty.title]` with `en` and `ko` in `deployments.toml` is said as `deployments.empty.title`."""

    def __init__(self, entries: Mapping[str, Mapping[str, str]]) -> None:
        self.entries = entries

    def say(self, language: Language, key: str, **values: object) -> str:
        """The words, with `{name}` filled in. With `count=1` and a form `en_one`, that one is taken.

        Raises:
            KeyError: there is no such entry; a mistake of ours, which a test finds.
        """
        entry = self.entries[key]
        text = entry[language]
        if values.get("count") == 1:
            text = entry.get(f"{language}_one", text)
        return text.format(**values) if values else text


@cache
def read_words(folder: Path = _FOLDER) -> Words:
    """All files of the folder; each entry has every language.

    Raises:
        ValueError: an entry lacks one.
    """
    entries: dict[str, Mapping[str, str]] = {}
    for file in sorted(folder.glob("*.toml")):
        entries.update(_flat(file.stem, tomllib.loads(file.read_text(encoding="utf-8"))))
    for key, entry in entries.items():
        if lacking := [language for language in LANGUAGES if language not in entry]:
            raise ValueError(f"{key} has no {', '.join(lacking)}")
    return Words(entries)


def _flat(prefix: str, table: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, str]]]:
    if any(isinstance(value, str) for value in table.values()):
        yield prefix, {name: str(value) for name, value in table.items()}
        return
    for name, value in table.items():
        yield from _flat(f"{prefix}.{name}", value)
