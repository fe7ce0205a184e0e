"""What `cloud-deploy up` says when it cannot, and that it leaves no process behind."""

from __future__ import annotations

import os
import signal
import socket
from pathlib import Path

import psutil
import pytest

from cloud_manager.cli import up


def places(folder: Path, **changes: int) -> up.Places:
    return up.settled(
        up.Places(folder / "shared", folder / "state", **{"manager_port": 0, "builder_port": 0} | changes)
    )


def nothing(_: str) -> None:
    return None


def test_a_process_that_dies_shows_its_last_lines(tmp_path: Path) -> None:
    """Otherwise a person has to find the log first."""
    daemon = up.Daemon("no_such_module", "http://127.0.0.1:1", tmp_path / "log")
    daemon.start(os.environ)
    with pytest.raises(up.CannotServe) as caught:
        daemon.wait_healthy()
    assert "no_such_module ended with exit status 1" in caught.value.problem.cause
    assert "No module named no_such_module" in caught.value.problem.fix
    daemon.stop(1)


def test_a_process_that_ignores_sigterm_is_ended(tmp_path: Path) -> None:
    """Otherwise Ctrl-C leaves a process that holds its port."""
    (tmp_path / "stubborn.py").write_text(
        "import signal, subprocess, sys\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import signal; signal.pause()'])\n"
        "print(child.pid, flush=True)\n"
        "signal.pause()\n"
    )
    log = tmp_path / "log"
    daemon = up.Daemon("stubborn", "http://127.0.0.1:1", log)
    daemon.start({**os.environ, "PYTHONPATH": str(tmp_path)})
    while not log.read_text().strip():
        daemon.check_alive(wait=0.05)
    child = psutil.Process(int(log.read_text()))
    daemon.stop(0.2)
    _, alive = psutil.wait_procs([child], timeout=10)
    assert not alive


def test_a_port_in_use_is_named_with_the_way_out(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(up.CannotServe) as caught, up.running(places(tmp_path, manager_port=port), nothing):
            pass
    assert f"port {port}, meant for the cloud manager, is in use" in caught.value.problem.cause
    assert "--ports" in caught.value.problem.fix


def test_a_folder_that_cannot_be_made_is_named_with_its_option(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("a file where a folder is wanted")
    with pytest.raises(up.CannotServe) as caught, up.running(places(tmp_path), nothing):
        pass
    assert str(tmp_path / "state") in caught.value.problem.cause
    assert "--state-dir" in caught.value.problem.fix


def test_a_signal_waits_until_the_clean_up_is_done() -> None:
    """Otherwise a second Ctrl-C leaves half of it running."""
    with up.interruptible(), pytest.raises(KeyboardInterrupt):
        with up.deaf():
            os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGTERM)
        signal.pause()


def test_local_programs_are_allowed_only_when_asked_for(tmp_path: Path) -> None:
    assert "LOCAL_TARGET" not in places(tmp_path).environment()
    assert up.Places(tmp_path, tmp_path, local=True).environment()["LOCAL_TARGET"] == "1"
