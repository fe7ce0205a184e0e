"""A program whose lines are told while it runs, and that ends with all that it started."""

from __future__ import annotations

import asyncio
import codecs
from asyncio.subprocess import DEVNULL, PIPE, STDOUT, Process
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path

from image_builder.engines.engine import Log
from image_builder.engines.processes import MARK, kill_marked
from image_builder.work import ended, in_thread, to_the_end

_TAIL = 400
_CHUNK = 1 << 16


async def watch(argv: Sequence[str], environ: Mapping[str, str], folder: Path, run: str, told: Log) -> tuple[int, str]:
    """Run a program in `folder`, marked with `run`; its exit code, and the end of what it wrote.

    When this is left, nothing that carries the mark runs any more: neither it, nor what it left in the background.

    Raises:
        OSError: it cannot be started.
    """
    process = await _start(argv, {**environ, MARK: run}, folder)
    tail: deque[str] = deque(maxlen=_TAIL)
    reading = asyncio.ensure_future(_read(process, tail, told))
    try:
        code = await process.wait()
    finally:
        await to_the_end(_end(process, reading, run))
    return code, "\n".join(tail)


async def _start(argv: Sequence[str], environ: Mapping[str, str], folder: Path) -> Process:
    """Shielded: cancelled half-way through its start, asyncio would lose the process."""
    start = asyncio.ensure_future(
        asyncio.create_subprocess_exec(
            *argv, stdin=DEVNULL, stdout=PIPE, stderr=STDOUT, env=environ, cwd=folder, start_new_session=True
        )
    )
    try:
        return await asyncio.shield(start)
    except asyncio.CancelledError:
        await ended(start)
        if start.exception() is None:
            process = start.result()
            await in_thread(lambda _: kill_marked(environ[MARK]))
            await process.wait()
        raise


async def _end(process: Process, reading: asyncio.Future[None], run: str) -> None:
    await in_thread(lambda _: kill_marked(run))
    await process.wait()
    await ended(reading)


async def _read(process: Process, tail: deque[str], told: Log) -> None:
    assert process.stdout is not None  # noqa: S101 - it was asked for
    decode, text = codecs.getincrementaldecoder("utf-8")(errors="replace").decode, ""
    while chunk := await process.stdout.read(_CHUNK):
        *lines, text = (text + decode(chunk)).split("\n")
        for line in lines:
            tail.append(line)
            told(line)
    if text:
        tail.append(text)
        told(text)
