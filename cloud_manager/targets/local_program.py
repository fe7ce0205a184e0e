"""One process of a service, with all its children: started, watched over, and dead when we say so."""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import cast

import psutil

from cloud_manager.targets.local_log import LogWriter, pump
from cloud_manager.targets.local_run import Run

MARK = "CLOUD_DEPLOY_INSTANCE"
"""Environment variable `<project identity>.<number of the start>`, inherited by every child of a service."""

_PR_SET_PDEATHSIG = 1  # https://man7.org/linux/man-pages/man2/PR_SET_PDEATHSIG.2const.html
_PR_SET_CHILD_SUBREAPER = 36  # https://man7.org/linux/man-pages/man2/PR_SET_CHILD_SUBREAPER.2const.html


def _prctl() -> Callable[[int, int], int] | None:
    """Linux's prctl; None elsewhere, where the sweep by `MARK` alone must do."""
    if not sys.platform.startswith("linux"):
        return None
    try:
        libc = ctypes.CDLL(None)
        return lambda option, value: int(libc.prctl(option, value, 0, 0, 0))
    except (OSError, AttributeError):
        return None


def adopt_orphans() -> None:
    """Children of dead children become ours, so that none escapes by a double fork."""
    if prctl := _prctl():
        prctl(_PR_SET_CHILD_SUBREAPER, 1)


def _dying_with_us() -> Callable[[], None] | None:
    """What the child does before it runs the program: ask to be killed with us, whatever kills us."""
    prctl, parent = _prctl(), os.getpid()
    if prctl is None:
        return None

    def ask() -> None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # we died before the wish was heard
            os._exit(1)

    return ask


def carriers(mark: str, variable: str = MARK) -> list[psutil.Process]:
    """Processes whose environment holds this mark, or one that starts with it and a dot. Blocking."""
    found = []
    for process in psutil.process_iter():
        try:
            value = process.environ().get(variable, "")
        except (psutil.Error, OSError):
            continue  # gone meanwhile, or another user's: never ours
        if (value == mark or value.startswith(f"{mark}.")) and process.pid != os.getpid():
            found.append(process)
    return found


def family(pid: int) -> list[psutil.Process]:
    """A process and all below it; empty if it is gone."""
    try:
        leader = psutil.Process(pid)
        return [leader, *leader.children(recursive=True)]
    except psutil.Error:
        return []


def kill_all(find: Callable[[], Iterable[psutil.Process]], *, seconds: float = 10.0) -> None:
    """SIGKILL until `find` finds nobody alive, since what is killed may have forked a moment before. Blocking.

    Raises:
        TimeoutError: some process is still there, e.g. waiting for a dead disk.
    """
    deadline = time.monotonic() + seconds
    while alive := [process for process in find() if not _dead(process)]:
        for process in alive:
            _send(process, signal.SIGKILL)
        psutil.wait_procs(alive, timeout=0.2)
        if time.monotonic() > deadline:
            raise TimeoutError(f"still alive after SIGKILL: {sorted(process.pid for process in alive)}")


def reap_strangers(ours: Iterable[int]) -> None:
    """Collect the adopted orphans that have ended; our own children are asyncio's to collect."""
    mine = set(ours)
    for child in psutil.Process().children():
        if child.pid not in mine and _dead(child):
            try:
                os.waitpid(child.pid, os.WNOHANG)
            except ChildProcessError:
                continue


def _dead(process: psutil.Process) -> bool:
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.Error:
        return True


def _send(process: psutil.Process, number: int) -> None:
    try:
        process.send_signal(number)
    except psutil.Error:
        return  # gone meanwhile


class Program:
    """A started program. `lines` are its last words; `started` is Unix time."""

    def __init__(self, process: asyncio.subprocess.Process, mark: str, log: LogWriter) -> None:
        self.process = process
        self.mark = mark
        self.started = time.time()
        self.lines: deque[str] = deque(maxlen=5)
        output = cast(asyncio.StreamReader, process.stdout)  # asked for in `start`
        self._pump = asyncio.create_task(pump(output, log, self.lines))

    @classmethod
    async def start(cls, run: Run, port: int, mark: str, log: LogWriter) -> Program:
        """Raises OSError if the entrypoint cannot be executed."""
        process = await asyncio.create_subprocess_exec(
            *run.argv,
            cwd=run.cwd,
            env={**run.env, "PORT": str(port), MARK: mark},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=_dying_with_us(),  # two system calls, no lock is taken
        )
        return cls(process, mark, log)

    @property
    def pid(self) -> int:
        return self.process.pid

    def everyone(self) -> list[psutil.Process]:
        """All processes of this program, those included that left its group. Blocking."""
        return list({process.pid: process for process in [*family(self.pid), *carriers(self.mark)]}.values())

    async def ended(self) -> int:
        """Wait for the end; the exit status with all output read (a child may keep the pipe open: 1 s at most)."""
        status = await self.process.wait()
        await asyncio.wait([self._pump], timeout=1.0)
        return status

    async def end(self, grace: float) -> None:
        """SIGTERM, `grace` seconds, SIGKILL; returns when the program and all its children are dead."""
        victims = await asyncio.to_thread(self.everyone)
        for process in victims:
            _send(process, signal.SIGTERM)
        await self._wait_for(victims, grace)
        remembered = {process.pid: process for process in victims}
        await asyncio.to_thread(kill_all, lambda: [*self.everyone(), *remembered.values()])
        await self.process.wait()
        await asyncio.wait([self._pump], timeout=1.0)
        self._pump.cancel()

    async def _wait_for(self, victims: list[psutil.Process], grace: float) -> None:
        deadline = time.monotonic() + grace
        while time.monotonic() < deadline and not all(map(_dead, victims)):  # noqa: ASYNC110 - nobody tells us
            await asyncio.sleep(0.05)
