"""A page that anybody looks at over a shoulder shows no secret that somebody wrote into the file."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from image_builder.web.manager_models import Finding, ProjectFile, Verdict
from image_builder.web.masking import COVER, covered
from image_builder.web.spec_diff import differences
from image_builder.web.yaml_view import lines_of

SECRET = "hunter2-canary"


@pytest.mark.parametrize(
    "line",
    [
        f"    DB_PASSWORD: {SECRET}",
        f"    'DB_PASSWORD': '{SECRET}'  # the old one",
        f"  env: {{A: 1, API_KEY: {SECRET}, B: 2}}",
        f"  - API_TOKEN={SECRET}",
        f"    url: postgres://user:{SECRET}@host/db",
        f"    client_secret : {SECRET}",
        f"    PRIVATE_KEY: |\n      first\n      {SECRET}\n\n      {SECRET}\n    NEXT: shown",
        f"    password: >-\n        {SECRET}",
    ],
)
def test_values_that_sound_like_secrets_are_covered(line: str) -> None:
    shown = covered(f"deploy:\n{line}\n")
    assert SECRET not in shown and COVER in shown
    assert len(shown.split("\n")) == len(f"deploy:\n{line}".split("\n"))


@pytest.mark.parametrize(
    "line",
    [
        "    GREETING: hello",
        "    MAX_TOKENS: 512",
        "    TOKENIZER: bert",
        "  secrets:\n    API_KEY: my-key:latest",
        "a: 1",
    ],
)
def test_everything_else_is_shown_as_it_is(line: str) -> None:
    assert covered(line) == line


@given(st.text(max_size=300))
def test_whatever_a_file_holds_its_lines_stay_in_place(text: str) -> None:
    """Else a finding would stand under a line that is not its own."""
    assert len(covered(text).split("\n")) == max(len(text.splitlines()), 1)


def test_a_finding_that_quotes_a_secret_does_not_show_it() -> None:
    finding = Finding(line=2, column=3, path="deploy.env.TOKEN", message=f"expected text, got '{SECRET}'")
    file = ProjectFile(text=f"deploy:\n  TOKEN: {SECRET}\n", verdict=Verdict(valid=False, findings=(finding,)))
    lines = lines_of(file)
    assert SECRET not in repr(lines)
    assert lines[1].remarks[0].message == f"expected text, got '{COVER}'"


def test_a_finding_behind_the_last_line_is_shown_all_the_same() -> None:
    finding = Finding(line=9, column=1, message="the file ends too early")
    lines = lines_of(ProjectFile(text="deploy:", verdict=Verdict(valid=False, findings=(finding,))))
    assert [remark.message for remark in lines[-1].remarks] == ["the file ends too early"]


def test_what_changed_is_told_by_its_path_without_secrets() -> None:
    before = {"deploy": {"type": "local", "entrypoint": ["a.py"], "env": {"DB_PASSWORD": "old"}}, "build": {"os": None}}
    after = {"deploy": {"type": "docker", "entrypoint": ["a.py", "-v"], "env": {"DB_PASSWORD": SECRET}}}
    told = differences(before, after)
    assert [(each.path, each.before, each.after) for each in told] == [
        ("deploy.entrypoint", "a.py", "a.py, -v"),
        ("deploy.env.DB_PASSWORD", COVER, COVER),
        ("deploy.type", "local", "docker"),
    ]
    assert differences(None, after) == ()
