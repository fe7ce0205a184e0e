"""A sentence is recognised for what it is, whatever stands in its holes, and at once."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloud_manager.problem_words import speak
from image_builder.contract import Problem
from image_builder.problem_words.template import Template

WORDS = speak("ko")
VALUES = st.text(alphabet=st.characters(blacklist_characters="; "), max_size=30)


@given(project=VALUES, file=VALUES)
def test_what_was_filled_in_is_found_again(project: str, file: str) -> None:
    """Otherwise the Korean sentence names another thing than the English one."""
    template = Template.of("project <{project}> has no file <{file}>.")
    values = {"project": project.replace("> has no file <", ""), "file": file}
    assert template.match(template.fill(values)) == values


@given(st.text(max_size=200))
def test_any_text_is_told_without_a_fault(text: str) -> None:
    """A message of others may be anything; the answer must still come."""
    told = WORDS.problem(Problem(code="exited", cause=text, fix=text))
    assert told.code == "exited"
    assert WORDS.problem(told) == told  # a service passes on what another has translated


@given(st.text(alphabet="ab;: .`'", max_size=60))
def test_what_is_in_no_catalogue_stays_word_for_word(text: str) -> None:
    assert WORDS.text(text) == text


@pytest.mark.parametrize("text", ["no {} name", "two {a}{b} together", "a {0} number"])
def test_a_template_that_could_not_be_read_back_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="hole"):
        Template.of(text)


def test_a_brace_is_written_twice() -> None:
    assert Template.of("{{name}} of {what}").match("{name} of x") == {"what": "x"}


@pytest.mark.parametrize(
    "text",
    [
        "; docker: " * 400,
        "a: " * 1300,
        "deployment.yaml:1:1: x: unknown key; " * 100,
        "the program exited with code " * 130,
        "x" * 4000,
    ],
)
def test_no_text_takes_long(text: str) -> None:
    """The causes of others are quoted up to 4000 characters: none may hold up a service."""
    before = time.process_time()
    WORDS.text(text)
    assert time.process_time() - before < 0.5
