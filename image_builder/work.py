"""Threads, processes and tasks that die with the task that asked for them."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import signal
import tempfile
import threading
from asyncio.subprocess import Process
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from contextvars import copy_context
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, TypeVar

from image_builder.engines.processes import MARK, kill_marked

T = TypeVar("T")
U = TypeVar("U")
_SAID_MAX = 64 << 20
"""Bytes of what a program says that are kept: the last."""


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
    context = copy_context()  # what the thread logs names the build and the request, too
    future = asyncio.get_running_loop().run_in_executor(None, context.run, work, flag)
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
    """Run a program in `folder` with `data` as its input. When this is left, all that it started has ended, too: also
    what went into the background with its output still open, for which a pipe would be waited for.

    Raises:
        OSError: it cannot be started.
        TimeoutError: it took longer than `seconds`.
    """
    mark = secrets.token_hex(16)
    with _spool() as inlet, _spool() as output, _spool() as errors:
        inlet.write(data.encode())
        inlet.seek(0)
        # Shielded: cancelled half-way through its start, asyncio would lose the process.
        start = asyncio.ensure_future(
            asyncio.create_subprocess_exec(
                *argv, stdin=inlet, stdout=output, stderr=errors, env={**environ, MARK: mark}, cwd=folder,
                start_new_session=True,
            )
        )  # fmt: skip
        try:
            process = await asyncio.shield(start)
            await asyncio.wait_for(process.wait(), seconds)
        finally:
            await to_the_end(_end(start, mark))
        return Finished(process.returncode or 0, _said(output), _said(errors))


def _spool() -> IO[bytes]:
    return tempfile.TemporaryFile(prefix="cloud-deploy-")


def _said(file: IO[bytes]) -> str:
    """The end, of a program that never stops talking."""
    file.seek(max(0, file.seek(0, os.SEEK_END) - _SAID_MAX))
    return file.read(_SAID_MAX).decode(errors="replace")


async def _end(start: asyncio.Future[Process], mark: str) -> None:
    await ended(start)
    if start.exception() is not None:
        return
    process = start.result()
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    await process.wait()
    await in_thread(lambda _: kill_marked(mark))


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


async def both(one: Coroutine[Any, Any, T], other: Coroutine[Any, Any, U]) -> tuple[T, U]:
    """As `each`, of two."""
    found: list[Any] = await each([one, other])
    return found[0], found[1]


async def to_the_end(work: Coroutine[Any, Any, T]) -> T:
    """Do what must not stop half-way. If this task is cancelled, it is done when CancelledError comes out."""
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await ended(task)
        raise
