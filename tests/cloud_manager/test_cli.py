"""The command line against a real HTTP server with canned answers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from cloud_manager.cli import up
from cloud_manager.cli.main import main
from tests.cloud_manager.canned_manager import PROBLEM, CannedManager, event, row, serving

GOOD = "deploy:\n  type: local\n  entrypoint: [server.py]\n"


@pytest.fixture
def manager() -> Iterator[CannedManager]:
    with serving(CannedManager()) as canned:
        yield canned


def cloud_deploy(*words: object) -> int:
    """Run the command in this process; its exit status."""
    with pytest.raises(SystemExit) as ended:
        main([str(word) for word in words])
    return int(ended.value.code or 0)


# --- start, stop ------------------------------------------------------------------------------------------------


def test_start_says_at_once_what_is_asked_for(manager: CannedManager, capsys: pytest.CaptureFixture[str]) -> None:
    manager.rows = [row("started")]
    assert cloud_deploy("start", "7", "42", "--url", manager.url) == 0
    assert capsys.readouterr().out == "started\n"
    assert manager.calls == ["POST /api/v1/deployments/7/42/start"]


def test_start_wait_ends_with_the_url(manager: CannedManager, capsys: pytest.CaptureFixture[str]) -> None:
    """Otherwise a script cannot go on when the service is up."""
    layers = [{"name": "torch", "kind": "wheel", "state": "fetching", "done": 5, "total": 10, "size": 0}]
    build = {"id": "ab", "state": "running", "step": "layers", "layers": layers}
    manager.rows = [row("started"), row("building", build=build), row("running")]
    manager.history = [event(1, "old news")]
    assert cloud_deploy("start", "7", "42", "--wait", "--url", manager.url) == 0
    printed = capsys.readouterr()
    assert printed.out == "running at http://127.0.0.1:41231\n"
    assert "old news" not in printed.err


def test_start_wait_does_not_take_the_old_revision_for_the_new(
    manager: CannedManager, capsys: pytest.CaptureFixture[str]
) -> None:
    """Otherwise a script tests the program that was there before."""
    behind = row("running", generation=3, settled_generation=2, url="http://127.0.0.1:1")
    manager.rows = [behind, behind, row("running", generation=3, settled_generation=3)]
    assert cloud_deploy("start", "7", "42", "--wait", "--url", manager.url) == 0
    assert capsys.readouterr().out == "running at http://127.0.0.1:41231\n"


def test_start_wait_fails_with_cause_and_fix(manager: CannedManager, capsys: pytest.CaptureFixture[str]) -> None:
    manager.rows = [row("started"), row("failed", problem=PROBLEM)]
    assert cloud_deploy("start", "7", "42", "--wait", "--url", manager.url) == 1
    assert "error: port 8080 is in use\nfix: Choose another port.\n" in capsys.readouterr().err


def test_stop_wait_ends_when_it_is_stopped(manager: CannedManager, capsys: pytest.CaptureFixture[str]) -> None:
    manager.rows = [row("stopping"), row("stopping"), row("stopped")]
    assert cloud_deploy("stop", "7", "42", "--wait", "--url", manager.url) == 0
    assert capsys.readouterr().out == "stopped\n"


def test_names_reach_the_manager_as_they_were_typed(manager: CannedManager) -> None:
    """Otherwise `..` in an id would be resolved on the way, and name something else."""
    manager.rows = [row("stopped")]
    cloud_deploy("stop", "a b", "50%", "--url", manager.url)
    assert manager.calls == ["POST /api/v1/deployments/a b/50%/stop"]


# --- status, events, logs ---------------------------------------------------------------------------------------


def test_status_lists_every_page(manager: CannedManager, capsys: pytest.CaptureFixture[str]) -> None:
    first = {"items": [row()], "next": "7/42"}
    manager.pages = [first, {"items": [row("failed", project_id="43", problem=PROBLEM)], "next": None}]
    assert cloud_deploy("status", "--url", manager.url) == 0
    printed = capsys.readouterr()
    assert "7/42" in printed.out and "7/43" in printed.out
    assert "error: port 8080 is in use" in printed.err


def test_status_of_a_failed_project_is_a_failure(manager: CannedManager) -> None:
    """Otherwise `cloud-deploy status 7 42 && …` goes on with a dead service."""
    manager.rows = [row("failed", problem=PROBLEM)]
    assert cloud_deploy("status", "7", "42", "--url", manager.url) == 1


def test_status_as_json_is_what_the_api_says(manager: CannedManager, capsys: pytest.CaptureFixture[str]) -> None:
    manager.rows = [row()]
    assert cloud_deploy("status", "7", "42", "--json", "--url", manager.url) == 0
    assert json.loads(capsys.readouterr().out) == row()


def test_status_needs_both_names_or_none(manager: CannedManager, capsys: pytest.CaptureFixture[str]) -> None:
    assert cloud_deploy("status", "7", "--url", manager.url) == 2
    assert "USER and PROJECT" in capsys.readouterr().err


def test_a_long_line_is_not_folded_in_a_pipe(manager: CannedManager, capsys: pytest.CaptureFixture[str]) -> None:
    """Otherwise grep and awk see half of an URL."""
    url = "http://" + "a" * 200
    manager.rows = [row(url=url)]
    cloud_deploy("status", "7", "42", "--url", manager.url)
    assert url in capsys.readouterr().out


def test_events_show_the_fix(manager: CannedManager, capsys: pytest.CaptureFixture[str]) -> None:
    manager.history = [event(1, "started", "start"), event(2, "the build failed", "error", PROBLEM)]
    assert cloud_deploy("events", "7", "42", "--url", manager.url) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].endswith("start    started")
    assert lines[1].endswith("error    the build failed  (Choose another port.)")


def test_events_follow_goes_on_where_history_ends(manager: CannedManager, capsys: pytest.CaptureFixture[str]) -> None:
    """And a stream that ends with a problem says which."""
    manager.history = [event(1, "started")]
    assert cloud_deploy("events", "7", "42", "--follow", "--json", "--url", manager.url) == 1
    printed = capsys.readouterr()
    assert [json.loads(line)["sequence"] for line in printed.out.splitlines()] == [1, 2, 3]
    assert "error: the database does not answer" in printed.err


def test_logs_are_printed_as_they_are(manager: CannedManager, capsys: pytest.CaptureFixture[str]) -> None:
    manager.log = "one\n[bold]two[/]\nthree\n"
    assert cloud_deploy("logs", "7", "42", "--tail", "2", "--url", manager.url) == 0
    assert capsys.readouterr().out == "[bold]two[/]\nthree\n"
    assert cloud_deploy("logs", "7", "42", "--follow", "--url", manager.url) == 0
    assert capsys.readouterr().out == manager.log
    assert cloud_deploy("logs", "7", "42", "--tail", "1", "--json", "--url", manager.url) == 0
    assert json.loads(capsys.readouterr().out) == {"line": "three"}
    manager.log = ""
    assert cloud_deploy("logs", "7", "42", "--url", manager.url) == 0
    assert capsys.readouterr().out == ""


# --- errors -----------------------------------------------------------------------------------------------------


def test_the_managers_own_words_reach_the_person(manager: CannedManager, capsys: pytest.CaptureFixture[str]) -> None:
    assert cloud_deploy("status", "7", "42", "--url", manager.url) == 1
    assert capsys.readouterr().err == "error: project 7/42 was never started\nfix: Start it.\n"


def test_no_manager_is_told_apart_from_a_failure(capsys: pytest.CaptureFixture[str]) -> None:
    """Otherwise a script takes a manager that is down for a project that is broken."""
    assert cloud_deploy("status", "--url", f"http://127.0.0.1:{up.free_port()}") == 3
    printed = capsys.readouterr().err
    assert printed.startswith("error: the cloud manager at http://127.0.0.1:")
    assert "\nfix: Start it with `cloud-deploy up`" in printed


@pytest.mark.parametrize("url", ["nonsense", "http://", "http://127.0.0.1:99999"])
def test_an_address_that_is_none_is_an_error_with_a_fix(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cloud_deploy("status", "--url", url) == 3
    assert "fix: " in capsys.readouterr().err


def test_another_program_at_the_managers_port_is_noticed(
    manager: CannedManager, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cloud_deploy("schema", "--url", manager.url) == 3
    assert "is not a cloud manager" in capsys.readouterr().err


def test_help_names_the_exit_status(capsys: pytest.CaptureFixture[str]) -> None:
    assert cloud_deploy("--help") == 0
    assert "Exit status: 0" in capsys.readouterr().out


@pytest.mark.parametrize(
    "words", [["nonsense"], ["start", "7"], ["up", "--ports", "80"], ["logs", "7", "42", "-n", "0"]]
)
def test_a_wrong_command_is_2(words: list[str]) -> None:
    assert cloud_deploy(*words) == 2


# --- validate ---------------------------------------------------------------------------------------------------


def test_validate_accepts_a_good_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "deployment.yaml"
    file.write_text(GOOD)
    assert cloud_deploy("validate", file) == 0
    assert capsys.readouterr().out.endswith(f"{file}: good\n")


def test_validate_takes_a_folder_and_prints_every_finding(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One line each, `file:line:column: path: message`, that an editor can jump to."""
    file = tmp_path / "deployment.yaml"
    file.write_text("build:\n  acelerator: cpu\ndeploy:\n  type: local\n  entrypoint: [a.py]\n  port: 1\n")
    assert cloud_deploy("validate", tmp_path) == 1
    lines = [line for line in capsys.readouterr().out.splitlines() if not line.startswith("note: ")]
    assert [line.split(": ")[:2] for line in lines] == [
        [f"{file}:2:3", "build.acelerator"],
        [f"{file}:6:3", "deploy.port"],
    ]
    assert "accelerator" in lines[0].split(": ", 2)[2]


def test_validate_files_wants_what_the_file_names(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "deployment.yaml").write_text(GOOD + "optional:\n  weight_file: digits.pt\n")
    (tmp_path / "nn_model").mkdir()
    (tmp_path / "nn_model" / "server.py").write_text("")
    assert cloud_deploy("validate", tmp_path) == 0
    assert cloud_deploy("validate", tmp_path, "--files") == 1
    assert "digits.pt" in capsys.readouterr().out


def test_validate_as_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "deployment.yaml"
    file.write_text("deploy: {type: local, entrypoint: [a.py], nope: 1}\n")
    assert cloud_deploy("validate", file, "--json") == 1
    verdict = json.loads(capsys.readouterr().out)
    assert not verdict["valid"]
    assert [finding["path"] for finding in verdict["findings"]] == ["deploy.nope"]


def test_validate_of_nothing_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cloud_deploy("validate", tmp_path / "nowhere.yaml") == 1
    assert "nowhere.yaml" in capsys.readouterr().err


def test_schema_needs_no_manager(capsys: pytest.CaptureFixture[str]) -> None:
    assert cloud_deploy("schema") == 0
    assert "properties" in json.loads(capsys.readouterr().out)
