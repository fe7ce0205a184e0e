"""Seconds, CPU seconds and memory of one build: of its client, of the daemon that works for it, and of its containers.

CPU: of the client's whole tree by wait4, of daemons and their children by /proc, of containers that are no children of
the daemon by their cgroup. Memory: resident pages, program files included and the page cache not, summed over all
these processes every 20 ms, the daemon's own included; what a process of ours peaked at in between is read off VmHWM.
"""

from __future__ import annotations

import os
import resource
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Thread
from types import TracebackType

_TICK = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")
_EVERY = 0.02
_GROUPS = Path("/sys/fs/cgroup")


@dataclass(frozen=True)
class Figures:
    """Of one build. Bytes; `daemons` is the memory of the daemons' own processes, without their children and
    clients; `sent` is what the registry holds more.
    """

    seconds: float
    processor: float
    memory: int
    daemons: int = 0
    sent: int = 0


@dataclass(frozen=True)
class Watched:
    """daemons: process ids. groups: names of cgroups. apart: children of the bench that do not count."""

    daemons: tuple[int, ...] = ()
    groups: tuple[str, ...] = ()
    apart: tuple[int, ...] = ()


class Meter:
    """with Meter(watched) as meter: ...; then meter.figures."""

    def __init__(self, watched: Watched) -> None:
        self._watched = watched
        self._peak = 0
        self._over = Event()
        self.figures = Figures(0, 0, 0)

    def __enter__(self) -> Meter:
        os.sync()  # what was written before is not this build's matter
        for pid in self._watched.daemons:
            _write(Path(f"/proc/{pid}/clear_refs"), "5")  # VmHWM begins anew: proc_pid_clear_refs(5)
        self._before = set(tree(os.getpid()))  # registry, wheels, and the engines of others
        self._sampler = Thread(target=self._sample, daemon=True)
        self._processor = self._processor_seconds()
        self._begun = time.perf_counter()
        self._sampler.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        seconds = time.perf_counter() - self._begun
        processor = self._processor_seconds() - self._processor
        self._over.set()
        self._sampler.join()
        daemons = sum(_status(pid, "VmHWM") for pid in self._watched.daemons)
        self.figures = Figures(seconds, processor, max(self._peak, daemons), daemons)

    def _processor_seconds(self) -> float:
        children = resource.getrusage(resource.RUSAGE_CHILDREN)
        daemons = sum(_ticks(pid) for root in self._watched.daemons for pid in tree(root)) / _TICK
        return children.ru_utime + children.ru_stime + daemons + sum(map(_group_seconds, self._watched.groups))

    def _sample(self) -> None:
        while not self._over.wait(_EVERY):
            self._peak = max(self._peak, sum(map(_resident, self._pids())))

    def _pids(self) -> set[int]:
        mine = set(tree(os.getpid())) - self._before
        apart = {pid for root in self._watched.apart for pid in tree(root)}
        daemons = {pid for root in self._watched.daemons for pid in tree(root)}
        inside = {pid for name in self._watched.groups for pid in _group_pids(name)}
        return (mine - apart) | daemons | inside


def tree(root: int) -> Iterable[int]:
    """A process and all below it, as they are now."""
    yield root
    try:
        threads = list(Path(f"/proc/{root}/task").iterdir())
    except OSError:
        return
    for thread in threads:
        for child in _read(thread / "children").split():
            yield from tree(int(child))


def _ticks(pid: int) -> int:
    """utime, stime and those of children that have ended: proc_pid_stat(5)."""
    words = _read(Path(f"/proc/{pid}/stat")).rpartition(")")[2].split()
    return sum(map(int, words[11:15]))


def _resident(pid: int) -> int:
    words = _read(Path(f"/proc/{pid}/statm")).split()
    return int(words[1]) * _PAGE if words else 0


def _status(pid: int, name: str) -> int:
    """In bytes; 0 if it is not told."""
    rows = (line.split() for line in _read(Path(f"/proc/{pid}/status")).splitlines())
    return next((int(row[1]) * 1024 for row in rows if row and row[0] == f"{name}:"), 0)


def _group_seconds(name: str) -> float:
    """Of a cgroup and those that were below it, version 1 or 2."""
    nanoseconds = _read(_GROUPS / "cpuacct" / name / "cpuacct.usage").strip()
    if nanoseconds:
        return int(nanoseconds) / 1e9
    rows = (line.split() for line in _read(_GROUPS / name / "cpu.stat").splitlines())
    return next((int(row[1]) / 1e6 for row in rows if row[0] == "usage_usec"), 0.0)


def _group_pids(name: str) -> list[int]:
    found: list[int] = []
    for top in (_GROUPS / "cpuacct" / name, _GROUPS / name):
        for folder, _, _ in os.walk(top):
            found += map(int, _read(Path(folder) / "cgroup.procs").split())
    return found


def _read(path: Path) -> str:
    """Empty for what is gone: processes and their files end at any time."""
    try:
        return path.read_text()
    except OSError:
        return ""


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text)
    except OSError:
        return  # then VmHWM is that of the process's whole life
