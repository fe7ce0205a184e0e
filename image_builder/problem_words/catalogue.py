"""Sentences and their translations. `Words` says a problem in one language."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib.resources import files
from typing import Any

from image_builder.contract import Problem
from image_builder.problem_words.template import Template

_DEEPEST = 6
"""So often a sentence may stand within a sentence: `given up …; the last one: the program exited …; its last …`."""

_DEFINITE, _WORDS_OF_A_NAME = 20, 2
_KEPT = 1024
_PLACE = re.compile(r"[^:;\n]{1,300}:\d{1,9}:\d{1,9}: ")
"""`file:line:column: `, at the beginning of a finding."""

_PLACE_AND_KEY = re.compile(_PLACE.pattern + r"(?:[^ :]{1,300}: )?")
_NEXT_PLACE = re.compile(r"; (?=[^:;\n ]{1,300}:\d{1,9}:\d{1,9}: )")
_HANGUL = re.compile("[\uac00-\ud7a3]")
_WORD = re.compile("[A-Za-z]{2}")


@dataclass(frozen=True, slots=True)
class Meaning:
    """What a code stands for in general."""

    cause: str
    fix: str


@dataclass(frozen=True)
class Catalogue:
    """Everything that can be said in `language`. sentences: English -> the other language; meanings: by code."""

    language: str
    sentences: Mapping[str, str]
    meanings: Mapping[str, Meaning]

    def __or__(self, other: Catalogue) -> Catalogue:
        return Catalogue(self.language, {**self.sentences, **other.sentences}, {**self.meanings, **other.meanings})


def load(package: str, language: str) -> Catalogue:
    """The files `<language>.json` and `codes.json` of a package."""
    folder = files(package)
    codes: dict[str, dict[str, Any]] = json.loads(folder.joinpath("codes.json").read_text(encoding="utf-8"))
    told = folder.joinpath(f"{language}.json")
    sentences = json.loads(told.read_text(encoding="utf-8")) if told.is_file() else {}
    return Catalogue(language, sentences, {code: Meaning(**row[language]) for code, row in codes.items()})


class Words:
    """Says problems in the language of a catalogue. English is what they are written in: there it changes no word."""

    def __init__(self, catalogue: Catalogue) -> None:
        self.language = catalogue.language
        self.meanings = catalogue.meanings
        self._pairs = _compiled(catalogue.sentences.items())
        self._exact = {pair.source.fixed[0]: pair.said for pair in self._pairs if not pair.source.holes}
        self._open = [pair for pair in self._pairs if pair.source.holes]
        self._cached = lru_cache(_KEPT)(self._say)

    def text(self, english: str) -> str:
        """A sentence, or several joined by `; `, with what is not known left as it is."""
        return self._cached(english, 0) if self._pairs else english

    def problem(self, problem: Problem) -> Problem:
        """The same problem in this language.

        What is not recognised is told in general, by the code; the English words stay beside it.
        """
        meaning = self.meanings.get(problem.code)
        if not self._pairs:
            return problem
        cause = self._or_general(problem.cause, meaning.cause if meaning else "")
        fix = self._or_general(problem.fix, meaning.fix if meaning else "")
        return problem.model_copy(update={"cause": cause, "fix": fix})

    def _or_general(self, english: str, general: str) -> str:
        said = self.text(english)
        if said != english or not general or _HANGUL.search(english) or not _WORD.search(english):
            return said
        place = _PLACE_AND_KEY.match(english)
        at = place.end() if place else 0
        return f"{english[:at]}{general} ({english[at:]})"

    def _say(self, text: str, depth: int) -> str:
        if depth > _DEEPEST or not _WORD.search(text):
            return text
        findings = _NEXT_PLACE.split(text)
        if len(findings) > 1:
            return "; ".join(self._cached(finding, depth + 1) for finding in findings)
        place = _PLACE.match(text)
        if place:
            return place[0] + self._cached(text[place.end() :], depth + 1)
        return self._sentence(text, depth) or self._parts(text, depth)

    def _sentence(self, text: str, depth: int) -> str | None:
        plain = text.rstrip(".")
        said = self._exact.get(text) or self._exact.get(plain) or self._exact.get(f"{plain}.")
        if said is not None:
            return said.fill({})
        matches = [
            (pair, found)
            for pair in self._open
            if pair.sign in text and (found := pair.source.match(text)) and pair.may_begin(found)
        ]
        if not matches:
            return None
        pair, found = min(matches, key=_looseness)
        return pair.said.fill({hole: self._cached(value, depth + 1) for hole, value in found.items()})

    def _parts(self, text: str, depth: int) -> str:
        """Of `name: sentence` the name stays; `one; other` is told part by part."""
        head, colon, rest = text.partition(": ")
        if colon and " " not in head:
            return f"{head}{colon}{self._cached(rest, depth + 1)}"
        if "; " in text:
            return "; ".join(self._cached(part, depth + 1) for part in text.split("; "))
        return f"{head}{colon}{self._cached(rest, depth + 1)}" if colon else text


@dataclass(frozen=True, slots=True)
class _Pair:
    source: Template
    said: Template
    sign: str
    """A part without which the sentence cannot be this one."""

    def may_begin(self, found: Mapping[str, str]) -> bool:
        """False if little is fixed and a thing with a long name would begin it: `… does not exist` of others' prose."""
        first, *rest = self.source.fixed
        if first or self.source.weight > _DEFINITE or rest[0].startswith((";", ",", ":", " (")):
            return True
        return found[self.source.holes[0]].count(" ") <= _WORDS_OF_A_NAME


def _looseness(match: tuple[_Pair, Mapping[str, str]]) -> tuple[int, int]:
    """Of several sentences that a text may be, the one with no other sentence in a hole; then the most definite."""
    pair, found = match
    return sum(value.count("; ") + value.count(", ") for value in found.values()), -pair.source.weight


def _compiled(sentences: Iterable[tuple[str, str]]) -> list[_Pair]:
    pairs = ((Template.of(english), Template.of(said)) for english, said in sentences)
    return [_Pair(source, said, source.longest) for source, said in pairs]


@cache
def words(language: str, *packages: str) -> Words:
    """Of one or more packages, read once."""
    loaded = [load(package, language) for package in packages]
    whole = loaded[0]
    for more in loaded[1:]:
        whole = whole | more
    return Words(whole)
