"""Threads, processes and tasks that die with the task that asked for them."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import threading
from asyncio.subprocess import PIPE, Process
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")


class Stopped(Exception):
    """Raised inside a worker thread whose task was cancelled; never seen outside."""


class StopFlag:
    """Handed to every worker; long loops call `check` at each chunk."""

    def __init__(self) -> None:
        self._event = threading.Event()

    def set(self) -> None:
        self._event.set()

    def check(self) -> None:
        if self._event.is_set():
            raise Stopped


async def in_thread(work: Callable[[StopFlag], T]) -> T:
    """Run `work` in a thread. If this task is cancelled, the thread has ended when CancelledError comes out."""
    flag = StopFlag()
    future = asyncio.get_running_loop().run_in_executor(None, work, flag)
    try:
        return await asyncio.shield(future)
    except asyncio.CancelledError:
        flag.set()
        await ended(future)
        raise


async def ended(future: asyncio.Future[T]) -> None:
    """Wait until `future` is done, however often this task is cancelled meanwhile; its outcome is of no interest."""
    while not future.done():
        try:
            await asyncio.wait([future])
        except asyncio.CancelledError:
            continue
    if not future.cancelled():
        future.exception()


@dataclass(frozen=True, slots=True)
class Finished:
    """A process that has ended. code: its exit code; output and errors: what it wrote, as text."""

    code: int
    output: str
    errors: str


async def run(
    argv: Sequence[str], environ: Mapping[str, str], folder: Path, *, data: str = "", seconds: float = 600
) -> Finished:
    """Run a program in `folder` with `data` as its input. When this is left, its whole process group has ended.

    Raises:
        OSError: it cannot be started.
        TimeoutError: it took longer than `seconds`.
    """
    # Shielded: cancelled half-way through its start, asyncio would lose the process.
    start = asyncio.ensure_future(
        asyncio.create_subprocess_exec(
            *argv, stdin=PIPE, stdout=PIPE, stderr=PIPE, env=dict(environ), cwd=folder, start_new_session=True
        )
    )
    try:
        process = await asyncio.shield(start)
    except asyncio.CancelledError:
        await ended(start)
        if start.exception() is None:
            await _kill(start.result(), asyncio.ensure_future(start.result().communicate()))
        raise
    talk = asyncio.ensure_future(process.communicate(data.encode()))
    try:
        output, errors = await asyncio.wait_for(asyncio.shield(talk), seconds)
    except BaseException:
        await _kill(process, talk)
        raise
    return Finished(process.returncode or 0, output.decode(errors="replace"), errors.decode(errors="replace"))


async def _kill(process: Process, talk: asyncio.Future[tuple[bytes, bytes]]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    await ended(talk)


async def each(works: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """Run all at once. The first error, or being cancelled, cancels the others and comes out when all have ended."""
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        return await asyncio.gather(*tasks)
    except BaseException:
        for task in tasks:
            task.cancel()
        for task in tasks:
            await ended(task)
        raise


async def to_the_end(work: Coroutine[Any, Any, T]) -> T:
    """Do what must not stop half-way. If this task is cancelled, it is done when CancelledError comes out."""
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await ended(task)
        raise
