"""A runtime without an engine: the image's program over a python of this machine, as a process.

For images of layers only (`scratch`). Limits, which an engine does not have: the program must read PORT (it gets a free
port of this machine), it sees this machine's files, and the image's absolute paths hold only in its arguments and
environment, where they are rewritten; a volume is a link below the folder that stands for `/`.
"""

from __future__ import annotations

import asyncio
import os
import posixpath
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import psutil

from gcp_emulator.run_names import short
from gcp_emulator.runtime_image import Image
from gcp_emulator.runtime_protocol import CannotRun, Launch

MARK = "GCP_EMULATOR_INSTANCE"
"""Environment variable, inherited by every child of an instance: the state's identity, a dot, a random word."""

_SUPERVISOR = Path(__file__).with_name("runtime_supervisor.py")
_VENV = "/opt/venv"  # where the image builder puts python packages
_PATH_LISTS = ("PATH", "PYTHONPATH", "LD_LIBRARY_PATH")
_SYSTEM_PATH = "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"


class ProcessInstance:
    def __init__(self, supervisor: subprocess.Popen[bytes], port: int, mark: str) -> None:
        self._supervisor = supervisor
        self._port = port
        self._mark = mark

    @property
    def address(self) -> tuple[str, int]:
        return "127.0.0.1", self._port

    @property
    def status(self) -> int | None:
        return self._supervisor.poll()

    async def stop(self, grace: float = 10.0) -> None:
        await asyncio.to_thread(self._stop, grace)

    def _stop(self, grace: float) -> None:
        deadline = time.monotonic() + grace
        if self._supervisor.poll() is None:
            self._supervisor.send_signal(signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):  # killed below, with whatever it started
            self._supervisor.wait(max(0.0, deadline - time.monotonic()))
        kill_carriers(self._mark)
        self._supervisor.wait()
        if self._supervisor.stdin is not None:
            self._supervisor.stdin.close()


class ProcessRuntime:
    def __init__(self, folder: Path, identity: str) -> None:
        """Args:
        folder: for logs (`logs/REVISION.jsonl`) and mounted roots; it outlives us.
        identity: of the state, so that a sweep finds what belongs to it and nothing else.
        """
        self._folder = folder
        self._identity = identity
        (folder / "logs").mkdir(parents=True, exist_ok=True)

    async def start(self, launch: Launch, image: Image) -> ProcessInstance:
        """Raises CannotRun."""
        starting = asyncio.ensure_future(asyncio.to_thread(self._start, launch, image))
        try:
            return await asyncio.shield(starting)
        except asyncio.CancelledError:
            await (await starting).stop(0.0)  # a thread cannot be cancelled: what it started is ours to end
            raise

    async def sweep(self) -> None:
        await asyncio.to_thread(kill_carriers, self._identity)

    async def close(self) -> None:
        return None

    def _start(self, launch: Launch, image: Image) -> ProcessInstance:
        root = self._root(launch, image)
        port = free_port()
        env = environment(image, launch, root, self._folder) | {"PORT": str(port)}
        argv = [_here(word, root) for word in arguments(image, launch)]
        if not argv:
            raise CannotRun(f"{launch.image} names no program to run")
        argv[0] = program(argv[0], root)
        cwd = root / (launch.working_dir or image.working_dir).lstrip("/")
        cwd.mkdir(parents=True, exist_ok=True)
        return supervised(argv, env=env, cwd=cwd, port=port, log=self.log(launch), identity=self._identity)

    def log(self, launch: Launch) -> Path:
        return self._folder / "logs" / f"{short(launch.revision)}.jsonl"

    def _root(self, launch: Launch, image: Image) -> Path:
        """The image's own, unless something is mounted: then one of the revision, of links to the same files."""
        _complete_environment(image.root)
        if not launch.mounts:
            return image.root
        root = self._folder / "roots" / launch.revision.replace("/", "_")  # a short name is one region's
        shutil.rmtree(root, ignore_errors=True)
        shutil.copytree(image.root, root, symlinks=True, copy_function=_link)
        for mount in launch.mounts:
            target = root / mount.path.lstrip("/")
            target.parent.mkdir(parents=True, exist_ok=True)
            target.symlink_to(mount.source.absolute(), target_is_directory=True)
        return root


def supervised(  # noqa: PLR0913 - all that a start depends on
    argv: Sequence[str], *, env: Mapping[str, str], cwd: Path, port: int, log: Path, identity: str
) -> ProcessInstance:
    """Start a program that ends with us. Blocking."""
    mark = f"{identity}.{secrets.token_hex(8)}"
    supervisor = subprocess.Popen(
        [sys.executable, "-I", "-S", str(_SUPERVISOR), str(log), "10", "--", *argv],
        cwd=cwd,
        env={**env, MARK: mark},
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    return ProcessInstance(supervisor, port, mark)


def arguments(image: Image, launch: Launch) -> tuple[str, ...]:
    """A command replaces the image's ENTRYPOINT and CMD, args its CMD only.

    https://cloud.google.com/run/docs/configuring/services/containers#configure-entrypoint
    """
    if launch.command:
        return (*launch.command, *launch.args)
    return (*image.entrypoint, *launch.args) if launch.args else image.argv


def environment(image: Image, launch: Launch, root: Path, home: Path) -> dict[str, str]:
    """Of the program: nothing of this machine's. Paths of the image become paths below `root`."""
    env = {"HOME": str(home), "LANG": "C.UTF-8"}
    for name, value in (*image.env.items(), *launch.env):
        parts = value.split(":") if name in _PATH_LISTS else [value]
        env[name] = ":".join(_here(part, root) for part in parts)
    venv = f"{root}{_VENV}"
    own = [part for part in env.get("PATH", "").split(":") if part.startswith(f"{root}/")]
    env["PATH"] = ":".join([f"{venv}/bin", *own, str(Path(sys.executable).parent), _SYSTEM_PATH])
    return {"PYTHONUNBUFFERED": "1", "VIRTUAL_ENV": venv, **env}


def program(word: str, root: Path) -> str:
    """A python that the image does not have is this machine's."""
    if not re.fullmatch(r"(.*/)?python(3(\.\d+)?)?", word):
        return word
    packaged = f"{root}{_VENV}/bin/python"
    if Path(packaged).exists():
        return packaged
    return word if Path(word).is_absolute() and Path(word).exists() else sys.executable


def _here(word: str, root: Path) -> str:
    path = posixpath.normpath(word) if word.startswith("/") else ""
    return f"{root}{path}" if path not in ("", "/") and os.path.lexists(f"{root}{path}") else word


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError:  # another disk, or a file system without hard links
        shutil.copy2(source, target, follow_symlinks=False)


def _complete_environment(root: Path) -> None:
    """The image's virtual environment gets a python of this machine. https://docs.python.org/3/library/site.html"""
    venv = Path(f"{root}{_VENV}")
    versions = [path.name for path in venv.glob("lib/python3.*")]
    if not versions or (venv / "pyvenv.cfg").exists():
        return
    own = f"python{sys.version_info.major}.{sys.version_info.minor}"
    found = os.path.realpath(sys.executable) if own in versions else shutil.which(versions[0])
    if not found:
        raise CannotRun(f"the image needs {versions[0]}, which this machine lacks")
    (venv / "bin").mkdir(exist_ok=True)
    for name in ("python", "python3", versions[0] if own not in versions else own):
        (venv / "bin" / name).unlink(missing_ok=True)
        (venv / "bin" / name).symlink_to(found)
    (venv / "pyvenv.cfg").write_text(f"home = {Path(found).parent}\ninclude-system-site-packages = false\n")


def free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return int(listening.getsockname()[1])


def carriers(mark: str) -> list[psutil.Process]:
    """Processes whose environment holds this mark, or one that begins with it and a dot. Blocking."""
    found = []
    for process in psutil.process_iter():
        try:
            value = process.environ().get(MARK, "")
            dead = process.status() == psutil.STATUS_ZOMBIE
        except (psutil.Error, OSError):
            continue  # gone meanwhile, or another user's
        if not dead and process.pid != os.getpid() and (value == mark or value.startswith(f"{mark}.")):
            found.append(process)
    return found


def kill_carriers(mark: str, seconds: float = 10.0) -> None:
    """SIGKILL until nobody carries the mark, since what is killed may have forked a moment before. Blocking."""
    deadline = time.monotonic() + seconds
    while (alive := carriers(mark)) and time.monotonic() < deadline:
        _kill(alive)
        psutil.wait_procs(alive, timeout=0.2)


def _kill(processes: Iterable[psutil.Process]) -> None:
    for process in processes:
        try:
            process.kill()
        except psutil.Error:
            continue  # gone meanwhile
