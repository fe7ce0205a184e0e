"""Blocking work in threads that dies with the task that asked for it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import TypeVar

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
