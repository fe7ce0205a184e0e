"""Several workers of pytest (`-n`): what they share is started once, and who runs what, and when.

The process that starts the workers outlives them, also one that crashes: that is the one which stops what was started
for all of them. Without `-n` it is the only process, and the same holds.
"""

from __future__ import annotations

import fcntl
import json
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

_BASES = frozenset({"base_image", "bare_debian"})  # the first to ask for one makes it, in a minute
_FOLDER = pytest.StashKey[Path]()
_started: list[psutil.Popen] = []  # kept: python warns of one that is forgotten while it runs


@pytest.fixture(scope="session")
def common_folder(pytestconfig: pytest.Config) -> Path:
    """A folder that all workers of this run share. Its path is short, for it holds sockets."""
    return pytestconfig.stash[_FOLDER]


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """One process at a time. The lock of one that dies is free again."""
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def started_once(folder: Path, name: str, start: Callable[[Path], tuple[psutil.Popen, str]]) -> str:
    """Address of a server that the first worker to ask starts, in a folder of its own. It is stopped with the run."""
    with locked(folder / f"{name}.lock"):
        note = folder / f"{name}.started"
        if not note.exists():
            (folder / name).mkdir(exist_ok=True)
            process, address = start(folder / name)
            _started.append(process)
            note.write_text(json.dumps({"pid": process.pid, "born": process.create_time(), "address": address}))
        return str(json.loads(note.read_text())["address"])


def free_port() -> int:
    """A port of 127.0.0.1 that nobody else is given for a minute, neither by us nor by the system.

    It has had a connection: until that is forgotten (TIME_WAIT), only who names the port and sets SO_REUSEADDR, as
    servers do, can have it. A port that was only bound and released may be another process's a moment later.
    """
    with socket.socket() as server, socket.socket() as client:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        server.bind(("127.0.0.1", 0))
        server.listen(1)
        client.connect(server.getsockname())
        accepted, _ = server.accept()
        accepted.close()  # who closes first waits: https://www.rfc-editor.org/rfc/rfc9293#section-3.6
        return int(server.getsockname()[1])


def _stop(note: Path) -> None:
    """By process id, unless that is another process by now. Being seen dead takes a while for who has much to stop."""
    told = json.loads(note.read_text())
    with suppress(psutil.NoSuchProcess):
        process = psutil.Process(told["pid"])
        if process.create_time() == told["born"]:
            process.terminate()
            with suppress(psutil.TimeoutExpired):
                process.wait(20)
                return
            process.kill()


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "alone(name): no two of a name run at once, in no two workers")
    given = getattr(config, "workerinput", {}).get("common_folder")
    config.stash[_FOLDER] = Path(given or tempfile.mkdtemp(prefix="cd-run-"))


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """https://pytest-xdist.readthedocs.io/en/stable/how-to.html#creating-one-time-session-fixtures"""
    node.workerinput["common_folder"] = str(node.config.stash[_FOLDER])


@pytest.hookimpl(optionalhook=True)
def pytest_handlecrashitem(crashitem: str) -> None:
    """End the run: the other workers would be given the test that kills, one after the other."""
    pytest.exit(f"a worker of pytest died while it ran {crashitem}", returncode=1)


def pytest_unconfigure(config: pytest.Config) -> None:
    if hasattr(config, "workerinput"):
        return
    folder = config.stash[_FOLDER]
    for note in folder.glob("*.started"):
        _stop(note)
    for row in psutil.disk_partitions(all=True):  # dockerd leaves its own network namespace mounted
        if row.mountpoint.startswith(f"{folder}/"):
            subprocess.run(["umount", row.mountpoint], check=False, capture_output=True)
    shutil.rmtree(folder, ignore_errors=True)


def pytest_itemcollected(item: pytest.Item) -> None:
    if _needs_docker(item):
        item.add_marker(pytest.mark.alone("docker"))


@pytest.fixture(autouse=True)
def _alone(request: pytest.FixtureRequest, common_folder: Path) -> Iterator[None]:
    """Only one worker at a time runs tests of one `alone` name."""
    mark = request.node.get_closest_marker("alone")
    if mark is None:
        yield
        return
    with locked(common_folder / f"{mark.args[0]}.alone"):
        yield


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """For two workers: each begins with a half, and takes from the end of the other's (`--dist worksteal`).

    One half begins with what must be run alone, so that nobody waits for it, the other with what else takes long.
    """
    if not hasattr(config, "workerinput"):
        return
    alone = [item for item in items if item.get_closest_marker("alone")]
    slow = [item for item in items if item not in alone and _is_slow(item)]
    quick = [item for item in items if item not in alone and item not in slow]
    rest = max(0, len(items) // 2 - len(alone))
    items[:] = [*alone, *quick[:rest], *slow, *quick[rest:]]


def _is_slow(item: pytest.Item) -> bool:
    fixtures = getattr(item, "fixturenames", ())
    return item.get_closest_marker("slow") is not None or not _BASES.isdisjoint(fixtures)


def _needs_docker(item: pytest.Item) -> bool:
    """By its fixtures, or by a parameter where it is for several engines: such tests look at what is left in it."""
    parameters = getattr(getattr(item, "callspec", None), "params", {})
    return "docker_engine" in getattr(item, "fixturenames", ()) or "docker" in parameters.values()
