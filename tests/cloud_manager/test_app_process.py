"""`python -m cloud_manager` as a process: how it begins, and how it ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
import pytest
import requests


def environment(folder: Path, **more: str) -> dict[str, str]:
    return {
        **os.environ,
        "STATE_DIR": str(folder / "state"),
        "SHARED_ROOT": str(folder / "shared"),
        "CLOUD_MANAGER_PORT": "0",
        "CLOUD_MANAGER_HOST": "127.0.0.1",
        "DATABASE_URL": "",
        "IMAGE_BUILDER_URL": "http://127.0.0.1:1",
        **more,
    }


@contextmanager
def process(folder: Path, **more: str) -> Iterator[subprocess.Popen[str]]:
    with (folder / "log").open("a") as log:
        command = [sys.executable, "-m", "cloud_manager"]
        running = subprocess.Popen(
            command, env=environment(folder, **more), stdout=subprocess.PIPE, stderr=log, text=True
        )
    try:
        yield running
    finally:
        running.kill()
        running.wait(10)
        assert running.stdout
        running.stdout.close()


def url(running: subprocess.Popen[str]) -> str:
    assert running.stdout
    return running.stdout.readline().split()[-1]


def refused(folder: Path, **more: str) -> str:
    """The one line that it says instead of starting."""
    done = subprocess.run(
        [sys.executable, "-m", "cloud_manager"],
        env=environment(folder, **more),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1, done.stderr
    lines = [line for line in done.stderr.splitlines() if " INFO " not in line]
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("cloud_manager cannot start: ")
    return lines[0]


@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_cleanly_with_streams_open(tmp_path: Path, ending: signal.Signals) -> None:
    """docker-compose gives ten seconds, then kills; a killed manager is no harm, but a slow one is a nuisance."""
    project = tmp_path / "shared" / "common" / "7" / "42"
    (project / "nn_model").mkdir(parents=True)
    (project / "nn_model" / "app.py").write_text("print('hello')\n")
    (project / "deployment.yaml").write_text(
        "build: {components: {libs: ['python==3.11']}}\ndeploy: {type: local, entrypoint: app.py}\n"
    )
    ids = {"user_id": "7", "project_id": "42"}
    with process(tmp_path, LOCAL_TARGET="1") as running, ExitStack() as open_streams:
        base = url(running)
        assert requests.get(f"{base}/start", params=ids, timeout=10).text == "started"
        assert requests.get(f"{base}/readyz", timeout=10).json()["problems"][0]["code"] == "builder_unavailable"
        events = f"{base}/api/v1/deployments/7/42/events/stream"
        lines = open_streams.enter_context(httpx.stream("GET", events, timeout=10)).iter_lines()
        assert any("start" in line for line in lines)
        running.send_signal(ending)
        assert running.wait(10) == 0
        assert not any("impossible" in line for line in lines)  # It ended, and was not torn.
    assert "Traceback" not in (tmp_path / "log").read_text()


def test_a_port_in_use_is_one_line(tmp_path: Path) -> None:
    with process(tmp_path) as running:
        port = url(running).rpartition(":")[2]
        line = refused(tmp_path, STATE_DIR=str(tmp_path / "other"), CLOUD_MANAGER_PORT=port)
    assert f"127.0.0.1:{port}" in line


def test_a_state_folder_in_use_is_one_line(tmp_path: Path) -> None:
    """Two managers over one SQLite file would each think that they own everything."""
    with process(tmp_path) as running:
        url(running)
        assert str(tmp_path / "state") in refused(tmp_path)


def test_a_state_folder_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert str(tmp_path / "file") in refused(tmp_path, STATE_DIR=str(tmp_path / "file" / "state"))


@pytest.mark.parametrize(
    ("setting", "value"), [("CLOUD_MANAGER_PORT", "99999"), ("LOG_LEVEL", "loud"), ("DATABASE_URL", "nonsense")]
)
def test_a_wrong_setting_is_named(tmp_path: Path, setting: str, value: str) -> None:
    assert setting in refused(tmp_path, **{setting: value})
