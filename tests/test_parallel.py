"""What several workers share is there once and gone afterwards; a worker that dies is a failure."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tests.parallel import free_port

ROOT = Path(__file__).parents[1]
SHARING = """
import os, signal, psutil, pytest
from tests.parallel import started_once

def sleeper(folder):
    process = psutil.Popen(["sleep", "1000"], start_new_session=True)
    return process, str(process.pid)

@pytest.fixture(scope="session")
def server(common_folder):
    return started_once(common_folder, "sleeper", sleeper)

@pytest.mark.parametrize("number", range(6))
def test_it_is_there(server, number):
    with open("pids", "a") as file:
        file.write(server + "\\n")
    assert psutil.pid_exists(int(server))
    if number == NUMBER:
        os.kill(os.getpid(), signal.SIGKILL)

@pytest.mark.parametrize("engine", ["docker", "buildah"])
@pytest.mark.parametrize("number", range(6))
def test_engine(engine, number):
    if engine == "docker":
        os.mkdir("used")
        os.rmdir("used")
"""


@pytest.mark.parametrize(("workers", "dies", "status"), [(2, -1, 0), (2, 3, 1), (0, -1, 0)])
def test_a_server_is_started_once_and_stopped_also_when_a_worker_dies(
    tmp_path: Path, workers: int, dies: int, status: int
) -> None:
    """Otherwise a run leaves engines behind, or says that all is well though tests were lost."""
    (tmp_path / "test_sharing.py").write_text(SHARING.replace("NUMBER", str(dies)))
    command = [sys.executable, "-m", "pytest", "-p", "tests.parallel", "-p", "no:cacheprovider", "-n", str(workers)]
    command += ["--dist", "worksteal"] if workers else []
    command += [f"--rootdir={tmp_path}", f"--basetemp={tmp_path / 'base'}", "-c", "/dev/null", "test_sharing.py"]
    python_path = {"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"}
    run = subprocess.run(
        command, cwd=tmp_path, env=python_path, capture_output=True, text=True, check=False, timeout=120
    )
    assert run.returncode == status, run.stdout + run.stderr
    assert ("died while it ran test_sharing.py::test_it_is_there[3]" in run.stdout) == (dies == 3)
    pids = set((tmp_path / "pids").read_text().split())
    assert len(pids) == 1
    assert not psutil.pid_exists(int(pids.pop()))


def test_a_port_is_given_to_nobody_else_and_can_be_served_on() -> None:
    """Otherwise two workers' servers take it from each other, once in a hundred runs."""
    port = free_port()
    given = set()
    for _ in range(20_000):
        with socket.socket() as other:
            other.bind(("127.0.0.1", 0))
            given.add(other.getsockname()[1])
    assert port not in given
    with socket.create_server(("127.0.0.1", port)):
        pass
