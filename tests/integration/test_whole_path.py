"""From deployment.yaml to an answer, and back to nothing: what every user of the tool does first."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from tests.integration.stack import HELLO, YAML, Stack, running, until


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with running(tmp_path_factory.mktemp("path")) as stack:
        yield stack


def test_start_runs_and_stop_leaves_nothing(stack: Stack) -> None:
    """Otherwise the tool does not do its one job."""
    stack.project(project="path", text="good morning")
    stack.begin(project="path")
    stack.wait("running", project="path")
    assert stack.answer(project="path")["text"] == "good morning"
    assert len(stack.programs(project="path")) == 1
    url = stack.show(project="path")["url"]

    answer = stack.get("/stop", project="path")
    assert (answer.status_code, answer.text) == (200, "finished")
    stack.wait("stopped", project="path")
    assert stack.programs(project="path") == []
    with pytest.raises(requests.ConnectionError):
        requests.get(url, timeout=5)
    assert stack.get("/stop", project="path").text == "finished"


def test_the_same_start_again_changes_nothing(stack: Stack) -> None:
    """Otherwise a repeated call restarts a service that people are using."""
    stack.project(project="same")
    stack.begin(project="same")
    stack.wait("running", project="same")
    before = stack.answer(project="same")
    stack.begin(project="same")
    settled = stack.show(project="same")["generation"]
    words = set()
    until(
        "the second start to be looked at",
        lambda: words.add(stack.word(project="same")) or settled_at(stack) >= settled,
    )
    assert words == {"running"}
    assert stack.answer(project="same") == before
    stack.get("/stop", project="same")


def settled_at(stack: Stack) -> int:
    return int(stack.show(project="same")["settled_generation"])


def test_a_changed_line_is_served_without_a_gap(stack: Stack) -> None:
    """Otherwise an update takes the service down."""
    stack.project(project="roll", text="one")
    stack.begin(project="roll")
    stack.wait("running", project="roll")
    url = stack.show(project="roll")["url"]
    stack.project(project="roll", text="two")
    stack.begin(project="roll")
    seen = []

    def updated() -> bool:
        seen.append(requests.get(url, timeout=10).json()["text"])
        return seen[-1] == "two"

    until("the new text", updated)
    assert set(seen) <= {"one", "two"}
    until("the old one to be gone", lambda: len(stack.programs(project="roll")) == 1)
    assert stack.show(project="roll")["url"] == url
    _roll_back(stack, url)
    stack.get("/stop", project="roll")


def _roll_back(stack: Stack, url: str) -> None:
    """To the first text, while the files say a third: neither read nor built, and without a gap."""
    stack.project(project="roll", text="three")
    path = "/deployments/7/roll"
    new, old = until("two good revisions", lambda: (rows := stack.api(f"{path}/revisions")["items"])[1:] and rows)
    assert (new["wanted"], old["wanted"]) == (True, False)
    asked = requests.post(f"http://127.0.0.1:{stack.port('manager')}/api/v1{path}/rollback", timeout=10)
    assert asked.status_code == 202
    seen = []

    def back() -> bool:
        seen.append(requests.get(url, timeout=10).json()["text"])
        return seen[-1] == "one"

    until("the text before", back)
    assert set(seen) <= {"one", "two"}
    until("it to settle", lambda: stack.word(project="roll") == "running")
    assert stack.show(project="roll")["revision"] == old["revision"]


def test_a_crashed_service_is_started_again(stack: Stack) -> None:
    """Otherwise one bad request ends the service for good."""
    stack.project(project="crash")
    stack.begin(project="crash")
    stack.wait("running", project="crash")
    pid = stack.answer(project="crash")["pid"]
    stack.programs(project="crash")[0].kill()

    def back() -> bool:
        try:
            return bool(stack.answer(project="crash")["pid"] != pid)
        except (requests.RequestException, ValueError):
            return False

    until("an answer from a new process", back)
    stack.get("/stop", project="crash")
    stack.wait("stopped", project="crash")


def test_pre_exec_runs_first_and_a_requirement_is_there(stack: Stack) -> None:
    """Otherwise a model that must be converted, or needs a library, is served wrong."""
    program = HELLO.replace('"TEXT"', 'open("made.txt").read() + __import__("iniconfig").__name__')
    folder = stack.project(
        project="pre",
        program=program,
        yaml=YAML.replace("pypi: []", "pypi: [iniconfig==2.0.0]") + "  pre_exec: [['make.py', 'A b', \"it's\"]]\n",
    )
    (folder / "nn_model" / "make.py").write_text(
        "import sys; open('made.txt', 'w').write(' '.join(sys.argv[1:]) + ' ')"
    )
    stack.begin(project="pre")
    stack.wait("running", project="pre")
    assert stack.answer(project="pre")["text"] == "A b it's iniconfig"
    stack.get("/stop", project="pre")


def test_logs_are_those_of_the_program(stack: Stack) -> None:
    stack.project(project="logs")
    stack.begin(project="logs")
    stack.wait("running", project="logs")
    url = f"http://127.0.0.1:{stack.port('manager')}/api/v1/deployments/7/logs/logs?tail=50"
    assert "listening on" in requests.get(url, timeout=10).text
    stack.get("/stop", project="logs")


def test_other_secrets_of_the_manager_do_not_reach_the_program(tmp_path: Path) -> None:
    """Otherwise any model's code can read the database password."""
    program = HELLO.replace('"TEXT"', "repr(sorted(os.environ))")
    with running(tmp_path, CANARY_PASSWORD="hunter2") as stack:
        stack.project(program=program)
        stack.begin()
        stack.wait("running")
        names = stack.answer()["text"]
        assert "'PORT'" in names
        assert "CANARY" not in names
        assert "DATABASE_URL" not in names
        stack.get("/stop")
        stack.wait("stopped")
