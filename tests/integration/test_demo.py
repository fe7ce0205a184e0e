"""`make demo` and `cloud-deploy up` as a person runs them: they work, and nothing outlives them."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
import requests

from tests.integration.stack import free_port, until

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.alone("usual ports")  # which demos take where they are free: one after the other


class Run:
    """A command of ours in a folder of its own, its output in a file."""

    def __init__(self, folder: Path, *words: str, **env: str) -> None:
        self.folder = folder
        self.log = folder / "output"
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, *words],
                cwd=ROOT,
                env={**os.environ, "DEMO_STATE": str(folder), "PYTHONWARNINGS": "default", **env},
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    @property
    def output(self) -> str:
        return self.log.read_text(errors="replace")

    def says(self, text: str, timeout: float = 120) -> None:
        until(f"{text!r}\n{self.output}", lambda: text in self.output or self.process.poll() is not None, timeout)
        assert text in self.output, self.output

    def ends(self, timeout: float = 180) -> int:
        return self.process.wait(timeout)

    def left(self) -> list[str]:
        """Command lines of processes that still have to do with the folder."""
        return [
            " ".join(words) for process in psutil.process_iter() if str(self.folder) in str(words := _told(process))
        ]


def _told(process: psutil.Process) -> list[str]:
    """Command line, working folder and STATE_DIR of a process, as far as they can be read."""
    try:
        if process.status() == psutil.STATUS_ZOMBIE:
            return []
        return [*process.cmdline(), process.cwd(), process.environ().get("STATE_DIR", "")]
    except (psutil.Error, OSError):
        return []


def demo(folder: Path, **env: str) -> Run:
    return Run(folder, "samples/demo.py", **env)


@pytest.mark.long  # CI runs the demos themselves
def test_demo_once_ends_well_and_leaves_nothing(tmp_path: Path) -> None:
    """The first thing that a newcomer runs. A second run works too."""
    for _ in range(2):
        run = demo(tmp_path, ONCE="1")
        assert run.ends() == 0, run.output
        assert run.left() == []
    for word in ("started", "running", "Hello from TANGO Cloud Deploy", "/docs", "curl", "stopped"):
        assert word in run.output


def test_ctrl_c_while_the_service_runs_stops_all(tmp_path: Path) -> None:
    """Otherwise a program and its port stay behind."""
    run = demo(tmp_path, ONCE="")
    run.says("Ctrl-C stops everything")
    url = re.search(r"GET (http://\S+)\n", run.output)
    assert url and requests.get(url.group(1), timeout=10).ok
    os.killpg(run.process.pid, signal.SIGINT)  # as a terminal does: to the whole group
    assert run.ends(60) == 0
    assert run.left() == []
    with pytest.raises(requests.ConnectionError):
        requests.get(url.group(1), timeout=5)


def test_ctrl_c_in_the_middle_of_a_deployment_stops_all(tmp_path: Path) -> None:
    run = demo(tmp_path, ONCE="1")
    run.says("GET /start")
    os.killpg(run.process.pid, signal.SIGINT)
    assert run.ends(60) == 130, run.output
    assert run.left() == []


@pytest.mark.slow
@pytest.mark.long  # CI runs the command itself, for hello
@pytest.mark.parametrize("sample", ["hello", "digits"])
def test_the_demo_on_google_ends_well_and_leaves_nothing(tmp_path: Path, sample: str) -> None:
    """What shows a newcomer without an account that the same file runs on Cloud Run. A second run works too."""
    for _ in range(2):
        run = demo(tmp_path, TARGET="gcp-cloudrun", SAMPLE=sample, ONCE="1")
        assert run.ends(280) == 0, run.output
        assert run.left() == []
    for word in ("403, without a token", "with an identity token", ".run.app", "100 % of the requests", "lists: none"):
        assert word in run.output


@pytest.mark.slow
def test_ctrl_c_in_the_middle_of_a_deployment_on_google_stops_all(tmp_path: Path) -> None:
    """Three daemons and a service's program: none may stay behind."""
    run = demo(tmp_path, TARGET="gcp-cloudrun", ONCE="1")
    run.says("starting the service on gcp-cloudrun")
    os.killpg(run.process.pid, signal.SIGINT)
    assert run.ends(60) == 130, run.output
    assert run.left() == []


def test_a_target_without_a_demo_says_which_have_one(tmp_path: Path) -> None:
    run = demo(tmp_path, TARGET="aws-ecs", ONCE="1")
    assert run.ends(30) == 1
    assert "local or gcp-cloudrun" in run.output


def test_a_sample_that_does_not_exist_says_which_do(tmp_path: Path) -> None:
    run = demo(tmp_path, SAMPLE="nope", ONCE="1")
    assert run.ends(30) == 1
    assert "hello, digits" in run.output


def test_up_serves_until_ctrl_c(tmp_path: Path) -> None:
    """Otherwise the tool cannot be used beside the demo."""
    run = up(tmp_path)
    run.says("Ctrl-C stops both")
    manager = re.search(r"cloud manager +(http://\S+)", run.output)
    assert manager and requests.get(f"{manager.group(1)}/docs", timeout=10).ok
    os.killpg(run.process.pid, signal.SIGINT)
    assert run.ends(15) == 0, run.output
    assert "Services of the local target go on" in run.output
    assert run.left() == []


def test_up_ends_when_one_of_the_two_dies(tmp_path: Path) -> None:
    """Otherwise a person waits for a manager that is not there."""
    run = up(tmp_path)
    run.says("Ctrl-C stops both")
    builder = next(child for child in psutil.Process(run.process.pid).children() if "image_builder" in child.cmdline())
    builder.kill()
    assert run.ends(30) == 1
    assert "image_builder ended with exit status -9" in run.output
    assert run.left() == []


def up(folder: Path) -> Run:
    ports = f"{free_port()}:{free_port()}"
    words = ["up", "--shared-root", str(folder / "shared"), "--state-dir", str(folder / "state"), "--ports", ports]
    return Run(folder, "-m", "cloud_manager.cli.main", *words)
