"""Processes of a run that outlive the program that started them. On Linux, where such engines are."""

from __future__ import annotations

import psutil

MARK = "CLOUD_DEPLOY_RUN"
"""An environment variable of everything that a run starts; its value is the run's id."""


def kill_marked(run: str) -> None:
    """End what carries the run's mark, and all that it started. Blocking, for a moment.

    First they are all stopped, until no new one is found: so none is born while the others die.
    """
    stopped: dict[int, psutil.Process] = {}
    while fresh := [process for process in _family(run) if process.pid not in stopped]:
        for process in fresh:
            stopped[process.pid] = process
            _signal(process, "suspend")
    for process in stopped.values():
        _signal(process, "kill")
    psutil.wait_procs(list(stopped.values()), timeout=10)


def _family(run: str) -> list[psutil.Process]:
    found: dict[int, psutil.Process] = {}
    for process in psutil.process_iter():
        if process.pid not in found and _has_mark(process, run):
            found[process.pid] = process
            found.update({child.pid: child for child in _children(process)})
    return [process for process in found.values() if process.pid != psutil.Process().pid]


def _has_mark(process: psutil.Process, run: str) -> bool:
    try:
        return process.environ().get(MARK) == run
    except (psutil.Error, OSError):
        return False  # gone, or another user's: not ours


def _children(process: psutil.Process) -> list[psutil.Process]:
    try:
        return process.children(recursive=True)
    except psutil.Error:
        return []


def _signal(process: psutil.Process, what: str) -> None:
    try:
        getattr(process, what)()
    except psutil.NoSuchProcess:
        return
