"""Problems in Korean: of one sentence, of several in one, and of what others say."""

from __future__ import annotations

from typing import Any

import pytest

from cloud_manager.deployment_spec import DeploymentSpec
from cloud_manager.problem_words import speak
from cloud_manager.spec_errors import known_keys
from cloud_manager.spec_expectation import of as expected
from image_builder.contract import Problem
from image_builder.problem_words.language import of_locale, preferred

KOREAN, ENGLISH = speak("ko"), speak("en")
AS_WRITTEN = {"cpu", "true"}
"""Values, not words about them."""


@pytest.mark.parametrize(
    ("english", "korean"),
    [
        ("project 7/42 was never started", "프로젝트 7/42"),
        (
            "deployment.yaml:9:13: deploy.port: unknown key; did you mean `env`?",
            "deployment.yaml:9:13: deploy.port: 알 수 없는 키입니다. 혹시 `env` 키입니까?",
        ),
        (
            "deployment.yaml:1:1: deploy: is missing; a section with `type` and `entrypoint` is expected; "
            "deployment.yaml:2:3: build.os: expected text, got a list; and 3 more",
            "deployment.yaml:1:1: deploy: 값이 없습니다. 필요한 값: `type`과 `entrypoint`가 있는 항목; "
            "deployment.yaml:2:3: build.os: 문자열 값이어야 하는데 목록 값이 있습니다; 그 밖에 3건",
        ),
        (
            "given up after 5 crashes in a row; the last one: the program exited with code 3; its last lines: a; b | c",
            "연속 5번 비정상 종료되어 그만두었습니다. 마지막 원인: "
            "프로그램이 종료 코드 3(으)로 끝났습니다; 마지막 로그: a; b | c",
        ),
        (
            "the port of deploy.network.service_host_port is in use; docker: start container web: port is allocated",
            "deploy.network.service_host_port의 포트가 사용 중입니다; docker(컨테이너 web 시작): port is allocated",
        ),
        ("start it; it is tried again by itself", "시작하십시오; 스스로 다시 시도합니다"),
    ],
)
def test_a_sentence_is_told_whole(english: str, korean: str) -> None:
    """Names, places and the words of others stay; the order is Korean."""
    told = KOREAN.text(english)
    assert told.startswith(korean) if len(korean) < 15 else told == korean


def test_what_nobody_foresaw_is_told_by_its_code_with_the_original() -> None:
    """Better a general sentence that one can read, with the particular one beside it, than none."""
    told = KOREAN.problem(Problem(code="port_in_use", cause="bind() said EADDRINUSE", fix="kill it"))
    assert told.cause == "포트가 사용 중입니다. (bind() said EADDRINUSE)"
    assert told.fix.endswith("(kill it)")


def test_english_is_not_touched() -> None:
    problem = Problem(code="port_in_use", cause="port 1 on ::1 is in use by x", fix="Stop it.")
    assert ENGLISH.problem(problem) is problem
    assert problem.docs == "/docs/errors/port_in_use"


def test_what_a_key_expects_is_told_for_every_key_there_is() -> None:
    """Most people meet these words first: what the file should have held."""
    left = set()
    for section, keys in known_keys().items():
        for key in keys:
            words = expected(f"{section}.{key}" if section else key, DeploymentSpec)
            korean = KOREAN.text(f"expected {words}, got nothing")
            if words in korean and words not in AS_WRITTEN:
                left.add(words)
    assert not left


@pytest.mark.parametrize(
    ("header", "language"),
    [
        *(("", "en"), ("*", "en"), ("fr", "en"), ("fr, ko;q=0", "en"), ("nonsense;;q=x,,", "en")),
        *(("ko", "ko"), ("ko-KR", "ko"), ("KO-kr;q=0.9", "ko"), ("fr, ko;q=0.1", "ko"), ("en;q=0.8, ko;q=0.9", "ko")),
        *(("en, ko", "en"), ("ko;q=0.5, en;q=0.5", "ko"), ("en-US,en;q=0.9,ko;q=0.8", "en"), ("ko;q=7", "en")),
    ],
)
def test_the_language_is_chosen_by_weight(header: str, language: str) -> None:
    assert preferred(header) == language


@pytest.mark.parametrize(
    ("values", "language"),
    [
        *((("ko_KR.UTF-8", "", "en_US.UTF-8"), "ko"), (("", "", "ko_KR"), "ko"), (("", "ko", ""), "ko")),
        *((("C", "", "ko_KR.UTF-8"), "en"), (("", "", ""), "en"), (("kok_IN.UTF-8", "", ""), "en")),
    ],
)
def test_the_terminal_speaks_the_language_of_its_locale(values: Any, language: str) -> None:
    """LC_ALL before LC_MESSAGES before LANG, as for every other program."""
    assert of_locale(values) == language
