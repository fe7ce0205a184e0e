"""The project manager's calls, made as it makes them."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest
import requests

from cloud_manager.deployment import Key, Phase
from cloud_manager.errors import InvalidSpec
from cloud_manager.routes.tango import error_line
from image_builder.contract import Problem
from tests.cloud_manager.face import PROJECT, Face, served

IDS = {"user_id": "7", "project_id": "42"}


@pytest.fixture(scope="module")
def running() -> Iterator[Face]:
    with served() as face:
        yield face


@pytest.fixture
def face(running: Face) -> Face:
    running.deployments.error = None
    running.deployments.calls.clear()
    return running


def ask(face: Face, path: str, params: object = None, **headers: str) -> requests.Response:
    """As TANGO's project manager does."""
    return requests.get(
        face.url + path,
        headers={"Content-Type": "text/plain", **headers},
        params=IDS if params is None else params,  # type: ignore[arg-type]
        timeout=10,
    )


def word(answer: requests.Response) -> str:
    return answer.text.replace('"', "")


def raw(face: Face, request: str) -> bytes:
    """What no HTTP library would send."""
    host, port = face.listener.getsockname()[:2]
    with socket.create_connection((host, port), timeout=10) as connection:
        connection.sendall(f"{request} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode("latin-1"))
        return b"".join(iter(lambda: connection.recv(65536), b""))


@pytest.mark.parametrize("phase", Phase)
def test_every_status_is_one_word(face: Face, phase: Phase) -> None:
    """Else the project manager shows an error, or a status it does not know."""
    face.know(phase)
    answer = ask(face, "/status_request")
    assert (answer.status_code, word(answer)) == (200, phase.value)
    assert len(word(answer)) <= 50
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert answer.headers["cache-control"] == "no-store"


def test_start_and_stop_say_what_the_project_manager_waits_for(face: Face) -> None:
    assert (ask(face, "/start").text, ask(face, "/stop").text) == ("started", "finished")
    assert face.deployments.calls == [("start", PROJECT), ("stop", PROJECT)]


def test_root_is_empty(face: Face) -> None:
    answer = ask(face, "/", {})
    assert (answer.status_code, answer.text, answer.headers["cache-control"]) == (200, "", "no-store")


def test_a_body_on_a_get_is_ignored(face: Face) -> None:
    """Some HTTP clients send one; the call is still the call."""
    face.know(Phase.RUNNING)
    for path, expected in (("/status_request", "running"), ("/start", "started")):
        answer = requests.get(face.url + path, params=IDS, data="{" * 5000, timeout=10)
        assert (answer.status_code, answer.text) == (200, expected)


@pytest.mark.parametrize(
    "query",
    [
        "project_id=42&user_id=7",
        "user_id=%37&project_id=4%32",
        "user_id=7&project_id=42&more=1",
        "&user_id=7&&project_id=42",
    ],
)
def test_the_query_may_be_spelled_otherwise(face: Face, query: str) -> None:
    face.know(Phase.BUILDING)
    assert ask(face, f"/status_request?{query}", {}).text == "building"


def test_an_unknown_project_is_an_error_in_words(face: Face) -> None:
    answer = ask(face, "/status_request", {"user_id": "7", "project_id": "nobody"})
    assert answer.status_code == 404
    assert answer.text.startswith("error: project 7/nobody was never started. ")
    assert len(word(answer)) > 50


BAD_QUERIES = [
    "",
    "user_id=7",
    "user_id=&project_id=42",
    "user_id=7&user_id=8&project_id=42",
    "user_id=..&project_id=42",
    "user_id=.hidden&project_id=42",
    "user_id=7/8&project_id=42",
    "user_id=7%2f8&project_id=42",
    "user_id=7&project_id=%2e%2e%2f42",
    "user_id=7%00&project_id=42",
    "user_id=7&project_id=" + "a" * 65,
    "user_id=%D9%A7&project_id=42",  # ARABIC-INDIC DIGIT SEVEN
    "user_id=%ff%fe&project_id=42",
    "user_id=7+&project_id=42",
    "user_id=7%0a&project_id=42",
    "user_id=%zz&project_id=42",
    "&".join(f"a{n}=1" for n in range(500)),
]


@pytest.mark.parametrize("path", ["/start", "/stop", "/status_request"])
@pytest.mark.parametrize("query", BAD_QUERIES)
def test_a_bad_id_is_refused_in_one_line_and_nothing_happens(face: Face, path: str, query: str) -> None:
    """Else somebody names a file outside the shared root, or the log of the project manager gets forged lines."""
    answer = ask(face, f"{path}?{query}", {})
    assert answer.status_code == 400, answer.text
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert answer.text.startswith("error: ")
    assert len(word(answer)) > 50
    assert answer.text.isprintable()
    assert face.deployments.calls == []


def test_raw_bytes_in_the_query_are_no_crash(face: Face) -> None:
    assert raw(face, "GET /start?user_id=\xff&project_id=42").startswith(b"HTTP/1.1 400")


@pytest.mark.parametrize("path", ["/start", "/stop"])
@pytest.mark.parametrize(
    ("header", "value"),
    [
        ("Sec-Fetch-Site", "cross-site"),
        ("Sec-Fetch-Site", "same-site"),
        ("Sec-Purpose", "prefetch"),
        ("Sec-Purpose", "prefetch;prerender"),
        ("Purpose", "prefetch"),
        ("X-Moz", "prefetch"),
    ],
)
def test_a_foreign_page_or_a_prefetch_starts_nothing(face: Face, path: str, header: str, value: str) -> None:
    """Else any web page that a person looks at could stop their service."""
    answer = ask(face, path, **{header: value})
    assert answer.status_code == 403
    assert value.partition(";")[0] in answer.text
    assert len(word(answer)) > 50
    assert face.deployments.calls == []


def test_an_address_typed_into_a_browser_is_meant(face: Face) -> None:
    assert ask(face, "/start", **{"Sec-Fetch-Site": "none"}).text == "started"


@pytest.mark.parametrize("path", ["/start", "/stop", "/", "/status_request"])
@pytest.mark.parametrize("method", ["HEAD", "POST", "PUT", "DELETE", "OPTIONS"])
def test_other_methods_do_not_act(face: Face, path: str, method: str) -> None:
    """Link checkers send HEAD."""
    answer = requests.request(method, face.url + path, params=IDS, timeout=10)
    assert (answer.status_code, answer.headers["allow"]) == (405, "GET")
    assert face.deployments.calls == []


def test_findings_of_several_lines_become_one(face: Face) -> None:
    face.deployments.error = InvalidSpec(
        "deployment.yaml:3:5: deploy.tpe: unknown key\ndeployment.yaml:4:1: build: wrong", "Correct\nthem"
    )
    answer = ask(face, "/start")
    assert answer.status_code == 422
    assert answer.text == (
        "error: deployment.yaml:3:5: deploy.tpe: unknown key; deployment.yaml:4:1: build: wrong. Correct; them"
    )


def test_a_mistake_of_ours_is_an_internal_error_without_its_insides(face: Face) -> None:
    face.deployments.error = RuntimeError("secret of the inside")
    answer = ask(face, "/start")
    assert answer.status_code == 500
    assert answer.text.startswith("error: internal error")
    assert "secret" not in answer.text
    assert len(word(answer)) > 50


def test_a_short_error_is_still_longer_than_a_status() -> None:
    line = error_line(Problem(code="x", cause='"""""""""""""""""""""""""""""""""""""""""""', fix="y"))
    assert len(line.replace('"', "")) > 50


def test_a_project_may_have_ids_of_letters_dots_and_dashes(face: Face) -> None:
    face.know(Phase.RUNNING, Key("a.b_c-D", "x" * 64))
    assert ask(face, "/status_request", {"user_id": "a.b_c-D", "project_id": "x" * 64}).text == "running"
