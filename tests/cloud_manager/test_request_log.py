"""The log: one line each, with the id that leads from a call to what came of it."""

from __future__ import annotations

import io
import json
import logging
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import requests

from cloud_manager.deployment import Phase
from cloud_manager.request_log import PROJECT, REQUEST_ID, JsonLines, TextLines
from tests.cloud_manager.face import Face, served, until


@pytest.fixture(scope="module")
def face() -> Iterator[Face]:
    with served() as face:
        face.know(Phase.RUNNING)
        yield face


@contextmanager
def logged(form: logging.Formatter) -> Iterator[io.StringIO]:
    """What our loggers say meanwhile, from DEBUG on."""
    text, own = io.StringIO(), logging.getLogger("cloud_manager")
    handler, level = logging.StreamHandler(text), own.level
    handler.setFormatter(form)
    own.addHandler(handler)
    own.setLevel(logging.DEBUG)
    try:
        yield text
        until(text.getvalue)  # the line is written once the answer has left
    finally:
        own.removeHandler(handler)
        own.setLevel(level)


def lines(text: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.getvalue().splitlines()]


def test_an_id_that_comes_is_answered_and_logged(face: Face) -> None:
    """Whoever calls can find his call in the log by his own id."""
    with logged(JsonLines()) as text:
        answer = requests.get(
            f"{face.url}/start?user_id=7&project_id=42", headers={"X-Request-ID": "from-tango.1"}, timeout=10
        )
    assert answer.headers["x-request-id"] == "from-tango.1"
    (line,) = lines(text)
    assert {
        "request_id": "from-tango.1",
        "project": "7/42",
        "method": "GET",
        "path": "/start",
        "status": 200,
    }.items() <= (line.items())
    assert (line["level"], line["logger"]) == ("INFO", "cloud_manager.request_log")
    assert line["time"].endswith("+00:00")


@pytest.mark.parametrize("given", ["", "two words", "a" * 65, "né", 'x"}', "../../etc"])
def test_an_id_that_could_forge_a_line_is_replaced(face: Face, given: str) -> None:
    answer = requests.get(f"{face.url}/healthz", headers={"X-Request-ID": given.encode()}, timeout=10)
    made = answer.headers["x-request-id"]
    assert made != given
    assert made.isalnum()
    assert len(made) == 32


def test_every_answer_has_an_id_of_its_own(face: Face) -> None:
    """Also an error, and what nobody serves: these are the calls that are asked about."""
    made = {requests.get(face.url + path, timeout=10).headers["x-request-id"] for path in ("/", "/nothing", "/readyz")}
    assert len(made) == 3


def test_what_only_looks_is_no_news(face: Face) -> None:
    """A page that is open looks every two seconds: the log would hold nothing else."""
    with logged(JsonLines()) as text:
        requests.get(f"{face.url}/api/v1/deployments", timeout=10)
        requests.get(f"{face.url}/api/v1/deployments/7/none", timeout=10)
        until(lambda: len(lines(text)) == 2)
    assert [(line["level"], line["status"]) for line in lines(text)] == [("DEBUG", 200), ("INFO", 404)]


def test_what_is_asked_with_a_query_is_not_logged(face: Face) -> None:
    """A token that somebody writes into an address by mistake would be kept by the log."""
    with logged(JsonLines()) as text:
        requests.get(f"{face.url}/api/v1/targets?token=canary-in-the-query", timeout=10)
        requests.get(f"{face.url}/start?user_id=7&project_id=42&token=canary-in-the-query", timeout=10)
        until(lambda: len(lines(text)) == 2)
    assert "canary" not in text.getvalue()


def test_a_failure_is_one_line_with_its_traceback() -> None:
    """A collector takes each line for an event of its own."""
    with logged(JsonLines()) as text:
        try:
            raise ValueError("first\nsecond")
        except ValueError:
            logging.getLogger("cloud_manager.somewhere").exception("it\nfailed: %s", "日本")
    (line,) = lines(text)
    assert line["message"] == "it\nfailed: 日本"
    assert line["exception"].startswith("Traceback")
    assert line["exception"].endswith("ValueError: first\nsecond")
    assert "request_id" not in line


def test_in_text_nobody_can_forge_a_line() -> None:
    with logged(TextLines()) as text:
        REQUEST_ID.set("r-1")
        PROJECT.set("7/42")
        logging.getLogger("cloud_manager.somewhere").warning("asked for %s", "x\n2026-01-01 ERROR forged \x1b[31m")
    REQUEST_ID.set("")
    PROJECT.set("")
    (line,) = text.getvalue().splitlines()
    assert line.endswith("WARNING cloud_manager.somewhere: asked for x\\n2026-01-01 ERROR forged \\x1b[31m"
                         " [request_id=r-1 project=7/42]")  # fmt: skip


def test_libraries_say_no_headers_and_no_data_however_loud_we_are() -> None:
    """httpcore tells every header at DEBUG, the database driver every row: tokens and files of projects."""
    program = (
        "import logging\n"
        "from cloud_manager.request_log import log_to_stderr\n"
        "log_to_stderr('DEBUG', 'json')\n"
        "for name in ('httpcore.http11', 'httpx', 'aiosqlite', 'urllib3'):\n"
        "    logging.getLogger(name).info('canary')\n"
        "    logging.getLogger(name).debug('canary')\n"
        "logging.getLogger('cloud_manager.x').debug('ours')\n"
    )
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert [json.loads(line)["message"] for line in said.stderr.splitlines()] == ["ours"]
