"""A Korean reader meets no English sentence of ours: what the source can say is held against the catalogues."""

from __future__ import annotations

import itertools
import re
from functools import cache
from pathlib import Path

import pytest

from cloud_manager.problem_words import speak as manager
from image_builder.problem_words.catalogue import Words, load
from image_builder.problem_words.speech import speak as builder
from image_builder.problem_words.template import Template
from tests.words.messages import HOLE, Message, codes, messages
from tests.words.source import Source, files

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("cloud_manager", "image_builder")
SPEAKERS = {"cloud_manager": manager, "image_builder": builder}
CATALOGUES = ("cloud_manager.problem_words", "image_builder.problem_words")

ELSEWHERE = {
    "image_builder/web/": "the pages have words of their own, both languages beside each other",
    "image_builder/problem_words/": "this is what is tested",
    "cloud_manager/cli/build.py": "figures of a finished build, printed by the command line",
    "cloud_manager/cli/watch.py": "labels of a table, printed by the command line",
    "image_builder/dockerfile.py:146": "a word within a sentence that is covered",
    "cloud_manager/targets/docker_logs.py": "lines of a program's log",
}
"""Found by a name in common; nothing of it is a cause, a fix or a finding."""


@cache
def _source() -> Source:
    return Source(files(ROOT, PACKAGES))


@cache
def _messages() -> list[Message]:
    return messages(_source())


@pytest.mark.parametrize("package", PACKAGES)
def test_every_sentence_has_its_korean(package: str) -> None:
    """Also those of the other package that are shown by this one."""
    words = SPEAKERS[package]("ko")
    left = [each for each in _messages() if _ours(each, package) and not _told(each, words)]
    assert not left, "without an entry in problem_words/ko.json:\n" + "\n".join(
        f"{each.place}: {each.text.replace(HOLE, '{}')}" for each in left
    )


def _ours(message: Message, package: str) -> bool:
    letters = sum(map(str.isalpha, message.text))
    return letters > 6 and message.place.startswith(package) and not message.place.startswith(tuple(ELSEWHERE))


def _told(message: Message, words: Words) -> bool:
    """Nothing of what stands in the holes is lost, and the sentence is another one. A first hole may be a place."""
    return any(_translated(text, words) for text in (message.text, message.text.removeprefix(HOLE)))


def _translated(text: str, words: Words) -> bool:
    numbers = itertools.count()
    english = re.sub(HOLE, lambda _: f"⟦{next(numbers)}⟧", text)
    said = words.text(english)
    return said != english and set(re.findall("⟦[0-9]+⟧", english)) <= set(re.findall("⟦[0-9]+⟧", said))


def test_the_search_finds_what_it_is_there_for() -> None:
    """Else the test above would pass for having found nothing."""
    found = {each.text for each in _messages()}
    assert len(found) > 900
    for text in (
        f"project {HOLE} was never started",  # an argument
        f"unknown key; did you mean `{HOLE}`?",  # of a function's answers
        "the Docker Engine has no GPU runtime",  # of a table
        f"the program exited with code {HOLE}, without a word in its log",  # by way of two variables
        "deploy.type gcp-cloudrun: no Google Cloud project is set",  # of a generator's pairs
        f"{HOLE} is no image reference: the registry {HOLE} is no host name",  # an argument of a helper
    ):
        assert text in found


@pytest.mark.parametrize("package", PACKAGES)
def test_every_code_has_a_page(package: str) -> None:
    known, found = SPEAKERS[package]("en").meanings, codes(_source())
    assert len(found) > 150
    left = [each for each in found if each.place.startswith(package) and each.text not in known]
    assert not left, "\n".join(f"{each.place}: {each.text} is not in problem_words/codes.json" for each in left)


@pytest.mark.parametrize("name", CATALOGUES)
def test_a_translation_says_all_that_the_english_does(name: str) -> None:
    for english, korean in load(name, "ko").sentences.items():
        assert set(Template.of(english).holes) == set(Template.of(korean).holes), english
        assert korean != english


@pytest.mark.parametrize("name", CATALOGUES)
def test_both_languages_explain_the_same_codes(name: str) -> None:
    english, korean = load(name, "en").meanings, load(name, "ko").meanings
    assert english.keys() == korean.keys()
    for code, meaning in korean.items():
        assert re.search("[가-힣]", meaning.cause + meaning.fix), code
