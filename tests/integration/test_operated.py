"""Builder and manager as an operator runs them: with a token, logs for a collector, and counts for Prometheus."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import requests
from prometheus_client.parser import text_string_to_metric_families

from tests.integration.stack import HEADERS, YAML, Stack, running, until

TOKEN = "canary-0123456789abcdef"
BEARER = {"Authorization": f"Bearer {TOKEN}"}
SECRET = "canary-of-the-yaml"


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """One project runs in it, started by a request with the id `tango-1`."""
    token = tmp_path_factory.mktemp("token") / "token"
    token.write_text(f"{TOKEN}\n")
    root = tmp_path_factory.mktemp("stack")
    with running(root, API_TOKEN_FILE=str(token), LOG_FORMAT="json", LOG_LEVEL="DEBUG") as stack:
        stack.project(yaml=YAML + f"  env:\n    PASSWORD: {SECRET}\n")
        url = f"http://127.0.0.1:{stack.port('manager')}/start?user_id=7&project_id=42&token={TOKEN}"
        answer = requests.get(url, headers=HEADERS | {"X-Request-ID": "tango-1"}, timeout=30)
        assert (answer.text, answer.headers["x-request-id"]) == ("started", "tango-1")
        stack.wait("running")
        yield stack


def url(stack: Stack, name: str, path: str) -> str:
    return f"http://127.0.0.1:{stack.port(name)}{path}"


def whole_log(stack: Stack, name: str) -> str:
    return (stack.root / f"{name}.log").read_text()


def lines(stack: Stack, name: str) -> list[dict[str, Any]]:
    """What it logged; the line on stdout that says where it listens is none."""
    return [json.loads(line) for line in whole_log(stack, name).splitlines() if line.startswith("{")]


def counts(stack: Stack, name: str) -> dict[tuple[str, ...], float]:
    text = requests.get(url(stack, name, "/metrics"), headers=BEARER, timeout=30).text
    return {
        (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_a_project_runs_though_everything_between_the_two_needs_the_token(stack: Stack) -> None:
    """The manager asks the builder with it, and fetches the layers of the image with it."""
    shown = requests.get(url(stack, "manager", "/api/v1/deployments/7/42"), headers=BEARER, timeout=30).json()
    assert shown["phase"] == "running"
    assert requests.get(shown["url"], timeout=10).json()["text"] == "hello"


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("manager", "/api/v1/deployments"),
        ("manager", "/metrics"),
        ("builder", "/builds"),
        ("builder", "/v2/"),
        ("builder", "/metrics"),
        ("builder", "/docs"),
    ],
)
def test_nothing_is_told_without_it(stack: Stack, name: str, path: str) -> None:
    assert requests.get(url(stack, name, path), timeout=30).status_code == 401
    assert requests.get(url(stack, name, path), headers=BEARER, timeout=30).status_code == 200


def test_the_builders_lines_lead_back_to_the_start_that_caused_them(stack: Stack) -> None:
    """Whoever looks for why a project failed finds all of it, in both logs, by one id."""
    of_manager = [line for line in lines(stack, "manager") if line.get("request_id") == "tango-1"]
    of_builder = [line for line in lines(stack, "builder") if line.get("request_id") == "tango-1"]
    assert {line.get("path") for line in of_manager} >= {"/start"}
    assert all(line["project"] == "7/42" for line in of_manager)
    assert {line.get("path") for line in of_builder} >= {"/builds"}
    ended = [line for line in of_builder if "succeeded" in line["message"]]
    assert [(line["project"], len(line["build"])) for line in ended] == [("7/42", 32)]


def test_every_line_is_an_object_and_none_has_a_secret(stack: Stack) -> None:
    """Logs are kept for long, and read by many. Here at DEBUG, with the token in a query by somebody's mistake."""
    for name in ("manager", "builder"):
        text = whole_log(stack, name)
        strange = [
            line for line in text.splitlines() if not line.startswith(("{", "cloud_manager listens", "image b", "GUI"))
        ]
        assert not strange
        for line in lines(stack, name):
            assert {"time", "level", "logger", "message"} <= line.keys()
        assert TOKEN not in text
        assert SECRET not in text


def test_what_was_done_is_counted(stack: Stack) -> None:
    manager, builder = counts(stack, "manager"), counts(stack, "builder")
    assert manager["cloud_deploy_deployments", "running", "local"] == 1
    assert manager["cloud_deploy_reconcile_seconds_count", "done"] > 2
    assert manager["cloud_deploy_status_words_total",] > 0
    assert manager["cloud_deploy_http_requests_total", "GET", "/start", "200"] == 1
    assert builder["image_builder_builds_ended_total", "succeeded"] == 1
    assert builder["image_builder_builds", "succeeded"] == 1
    assert builder["image_builder_layer_bytes_total", "built"] > 0
    assert builder["image_builder_step_seconds_count", "layers"] == 1
    assert builder["image_builder_queue_depth",] == 0


def test_the_command_line_sends_the_token(stack: Stack) -> None:
    command = [sys.executable, "-m", "cloud_manager.cli.main", "status", "7", "42", "--json"]
    env = dict(os.environ, CLOUD_MANAGER_URL=url(stack, "manager", ""))
    refused = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60, check=False)
    assert refused.returncode != 0
    assert "API_TOKEN" in refused.stderr
    shown = subprocess.run(
        command, env=env | {"API_TOKEN": TOKEN}, capture_output=True, text=True, timeout=60, check=True
    )
    assert json.loads(shown.stdout)["phase"] == "running"


def test_a_manager_with_another_token_says_so_and_waits(stack: Stack) -> None:
    """It is the operator's slip, not the project's: it goes on when both have the same."""
    stack.kill("manager")
    stack.env["API_TOKEN"] = "another-token-altogether"
    file = stack.env.pop("API_TOKEN_FILE")
    try:
        stack.start("manager")
        stack.wait_healthy("manager")
        stack.project("7", "43")
        stack.begin("7", "43")
        headers = {"Authorization": "Bearer another-token-altogether"}
        path = url(stack, "manager", "/api/v1/deployments/7/43")

        found = until(
            "the problem",
            lambda: requests.get(path, headers=headers, timeout=10).json()["problem"],
        )
        assert (found["code"], found["retryable"]) == ("builder_denied", True)
        assert "same API_TOKEN" in found["fix"]
    finally:
        del stack.env["API_TOKEN"]
        stack.env["API_TOKEN_FILE"] = file
