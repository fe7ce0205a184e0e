"""kill -9, at every step and at any moment: the service comes up once, and the history tells what happened."""

from __future__ import annotations

import random
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from tests.integration.stack import HELLO, YAML, Stack, running, until

WITH_A_WHEEL = YAML.replace("pypi: []", "pypi: [iniconfig==2.0.0]")


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Stack]:
    with running(tmp_path) as stack:
        yield stack


def events_in(stack: Stack) -> int:
    """Events written so far, read beside the manager: each step ends with one."""
    with sqlite3.connect(f"file:{stack.state}/manager.db?mode=ro", uri=True) as database:
        return int(database.execute("select count(*) from events").fetchone()[0])


def comes_up_once(stack: Stack, text: str) -> None:
    stack.wait("running", timeout=120)
    until("one process", lambda: len(stack.programs()) == 1)
    assert stack.answer()["text"] == text
    sound = sqlite3.connect(stack.state / "manager.db").execute("pragma integrity_check").fetchone()[0]
    assert sound == "ok"


@pytest.mark.slow
@pytest.mark.parametrize(
    "victims",
    [
        pytest.param(("manager",), id="manager"),
        pytest.param(("builder",), id="builder", marks=pytest.mark.long),
        pytest.param(("manager", "builder"), id="manager+builder"),
    ],
)
def test_killed_after_every_step(stack: Stack, victims: tuple[str, ...]) -> None:
    """Otherwise a power cut leaves a project stuck, doubled or lost. Each round kills one step later."""
    step = 0
    finished = False
    while not finished:
        step += 1
        text = f"round {step}"
        stack.project(text=text, yaml=WITH_A_WHEEL)
        before = events_in(stack)
        stack.begin()

        def reached(wanted: int = before + step) -> bool:
            return events_in(stack) >= wanted or stack.word() == "running"

        until("the step", reached)
        finished = stack.word() == "running" and events_in(stack) < before + step
        stack.kill(*victims)
        stack.start(*victims)
        for name in victims:
            stack.wait_healthy(name)
        until("this round's text", lambda wanted=text: served(stack) == wanted, timeout=120)  # type: ignore[misc]
        comes_up_once(stack, text)
    assert step > 3, "a deployment has more steps than that"
    stack.get("/stop")
    stack.wait("stopped")
    assert stack.programs() == []


def served(stack: Stack) -> str:
    try:
        return str(stack.answer()["text"])
    except (requests.RequestException, ValueError, KeyError):
        return ""


@pytest.mark.long
def test_killed_at_random_instants(stack: Stack) -> None:
    """Otherwise some instant between two steps is not covered."""
    dice = random.Random(20261122)
    for number in range(10):
        text = f"try {number}"
        stack.project(text=text, yaml=WITH_A_WHEEL)
        stack.begin()
        threading.Event().wait(dice.uniform(0, 2.5))
        victims = dice.choice([("manager",), ("builder",), ("manager", "builder")])
        stack.kill(*victims)
        stack.start(*victims)
        for name in victims:
            stack.wait_healthy(name)
        until("the text", lambda wanted=text: served(stack) == wanted, timeout=120)  # type: ignore[misc]
        comes_up_once(stack, text)
    story = stack.story()
    assert story.count("\n") > 10


@pytest.mark.slow
def test_killed_while_stopping(stack: Stack) -> None:
    """Otherwise a service that was stopped goes on running, and being billed."""
    for moment in (0.0, 0.05, 0.2, 0.5):
        stack.project()
        stack.begin()
        stack.wait("running")
        assert stack.get("/stop").text == "finished"
        threading.Event().wait(moment)
        stack.kill("manager")
        stack.start("manager")
        stack.wait_healthy("manager")
        stack.wait("stopped")
        assert stack.programs() == []


def test_a_service_outlives_the_manager(stack: Stack) -> None:
    """Otherwise an update of Cloud Deploy takes every service down."""
    stack.project()
    stack.begin()
    stack.wait("running")
    before = stack.answer()
    url = stack.show()["url"]
    stack.kill("manager")
    assert requests.get(url, timeout=5).json() == before
    stack.start("manager")
    stack.wait_healthy("manager")
    stack.wait("running")
    assert stack.answer() == before
    stack.terminate("manager")
    assert requests.get(url, timeout=5).json() == before


def test_stop_during_a_build_leaves_nothing(stack: Stack) -> None:
    """Otherwise a stopped build goes on using the machine, or its service appears later."""
    stack.project(yaml=YAML.replace("pypi: []", "pypi: [iniconfig==2.0.0, packaging, pyyaml]"))
    stack.begin()
    stack.wait("building")
    assert stack.get("/stop").text == "finished"
    stack.wait("stopped")
    builds = requests.get(f"http://127.0.0.1:{stack.builder_port}/builds", timeout=5).json()
    rows = builds["builds"] if isinstance(builds, dict) else builds
    assert [row["state"] for row in rows] == ["cancelled"]
    assert stack.programs() == []
    assert not any("uv" in " ".join(child) for child in children_of(stack.processes["builder"].pid))


def children_of(pid: int) -> list[list[str]]:
    import psutil

    return [child.cmdline() for child in psutil.Process(pid).children(recursive=True)]


def test_builder_down_at_the_start_is_waited_for(tmp_path: Path) -> None:
    """Otherwise the order in which containers start decides whether a deployment works."""
    stack = Stack(tmp_path)
    try:
        stack.start("manager")
        stack.wait_healthy("manager")
        stack.project()
        stack.begin()
        until("the reason", lambda: "builder" in str(stack.show().get("problem")))
        assert stack.word() in ("started", "building")
        assert any(row["kind"] == "retry" for row in stack.events())
        stack.start("builder")
        stack.wait_healthy("builder")
        comes_up_once(stack, "hello")
        assert stack.show()["problem"] is None
    finally:
        stack.close()


def test_a_slow_program_keeps_its_word_until_it_answers(stack: Stack) -> None:
    """Otherwise `running` is said of a service that does not answer yet."""
    stack.project(program="import time; time.sleep(3)\n" + HELLO)
    stack.begin()
    words = []
    until("running", lambda: words.append(stack.word()) or words[-1] == "running")
    assert "preparing" in words
    assert stack.answer()["text"] == "hello"
