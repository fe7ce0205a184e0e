"""The log of a project on an Engine: its containers' one after the other, followed over restarts and updates."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from datetime import datetime
from typing import Any

from aiodocker.containers import DockerContainer

from cloud_manager.clock import Clock
from cloud_manager.errors import DeployError
from cloud_manager.targets.docker_engine import Engine
from cloud_manager.targets.docker_world import Box

_LOOK = 1.0
"""Seconds between looks for containers that are new."""
Programs = Callable[[], Awaitable[tuple[Box, ...]]]


async def read_log(
    engine: Engine, programs: Programs, clock: Clock, *, tail: int, follow: bool
) -> AsyncGenerator[str, None]:
    """The last `tail` lines of all programs that are there, the oldest first; then, if `follow`, new ones for ever."""
    boxes = await _in_order(programs)
    lines: deque[str] = deque(maxlen=max(0, tail))
    ends: dict[str, str] = {}
    for box in boxes:
        lines.append(_title(box))
        async with aclosing(_lines(engine, box, tail=max(1, tail), follow=False, since="")) as rows:
            async for stamp, line in rows:
                lines.append(line)
                ends[box.id] = stamp
    for line in lines:
        yield line
    if follow:
        async with aclosing(_follow(engine, programs, clock, {box.id: ends.get(box.id, "") for box in boxes})) as new:
            async for line in new:
                yield line


async def _follow(engine: Engine, programs: Programs, clock: Clock, known: dict[str, str]) -> AsyncGenerator[str, None]:
    """known: container -> the time of its last line that was read."""
    lines: asyncio.Queue[str] = asyncio.Queue(maxsize=1000)
    watching = asyncio.create_task(_watch(engine, programs, clock, known, lines))
    try:
        while True:
            next_line = asyncio.ensure_future(lines.get())
            await asyncio.wait({next_line, watching}, return_when=asyncio.FIRST_COMPLETED)
            if not next_line.done():
                next_line.cancel()
                await watching  # it ends only by an error
            yield next_line.result()
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)


async def _watch(
    engine: Engine, programs: Programs, clock: Clock, known: dict[str, str], lines: asyncio.Queue[str]
) -> None:
    async with asyncio.TaskGroup() as group:
        reading: dict[str, asyncio.Task[None]] = {}
        while True:
            for box in await _in_order(programs):
                if box.id not in known:
                    await lines.put(_title(box))
                    known[box.id] = ""
                # One that has ended and is started again is read again, from where it was.
                if box.id not in reading or reading[box.id].done():
                    reading[box.id] = group.create_task(_copy(engine, box, known, lines))
            await clock.sleep(_LOOK)


async def _copy(engine: Engine, box: Box, known: dict[str, str], lines: asyncio.Queue[str]) -> None:
    """Until the container ends."""
    try:
        async with aclosing(_lines(engine, box, tail=None, follow=True, since=known[box.id])) as rows:
            async for stamp, line in rows:
                if stamp > known[box.id]:
                    known[box.id] = stamp
                    await lines.put(line)
    except DeployError:
        return  # it has just been removed, or the Engine is away: the next look finds out


async def _in_order(programs: Programs) -> list[Box]:
    return sorted(await programs(), key=lambda box: (box.created, box.name))


async def _lines(
    engine: Engine, box: Box, *, tail: int | None, follow: bool, since: str
) -> AsyncGenerator[tuple[str, str], None]:
    """(time, line) of both its streams. The time is RFC 3339 with nine digits: it sorts as text."""
    more: dict[str, Any] = {"tail": "all" if tail is None else tail} | ({"since": _unix(since)} if since else {})
    rest = ""
    async with (
        engine.asked(f"logs of container {box.name}") as docker,
        aclosing(_frames(docker.containers.container(box.id), follow, more)) as frames,
    ):
        async for frame in frames:
            *whole, rest = (rest + frame).split("\n")
            for line in whole:
                stamp, _, text = line.partition(" ")
                yield stamp, text.rstrip("\r")


async def _frames(container: DockerContainer, follow: bool, more: dict[str, Any]) -> AsyncGenerator[str, None]:
    """Each begins with its time."""
    if follow:
        async for frame in container.log(stdout=True, stderr=True, follow=True, timestamps=True, **more):
            yield frame
    else:
        for frame in await container.log(stdout=True, stderr=True, follow=False, timestamps=True, **more):
            yield frame


def _unix(stamp: str) -> str:
    """Seconds with nine digits, of an RFC 3339 time in UTC, as the Engine's `since` takes them."""
    whole, _, rest = stamp.rstrip("Z").partition(".")
    return f"{int(datetime.fromisoformat(f'{whole}+00:00').timestamp())}.{rest or 0}"


def _title(box: Box) -> str:
    """Before the first line of each container."""
    return f"[cloud-deploy] revision {box.revision}, container {box.name}"
