"""Server-sent events of the pages: https://html.spec.whatwg.org/multipage/server-sent-events.html

A page has one stream at most; browsers hold six connections to a host. What is sent is HTML to be put in place.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import asdict, dataclass
from typing import Literal

from starlette.responses import StreamingResponse

_KEEP_ALIVE = ": still here\n\n"
_HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}


@dataclass(frozen=True, slots=True)
class Put:
    """One change of a page: `html` is an element with the id `target`.

    replace: in the place of the one there; nothing if there is none. first, last: the same, else as the first or last
    child of the element with the id `into`. append: `html` goes to the end of `target`, whatever is there.
    empty: nothing is left in `target`.
    """

    target: str
    html: str
    how: Literal["replace", "first", "last", "append", "empty"] = "replace"
    into: str = ""


@dataclass(frozen=True, slots=True)
class Refresh:
    """So much has changed that the page is best fetched anew."""


class Streams:
    """The streams that are open; all end when the server goes down, so that none holds up a stop."""

    def __init__(self, quiet: float = 15.0) -> None:
        """quiet: seconds of silence after which a comment is sent, for proxies close what is silent."""
        self._quiet = quiet
        self._pumps: set[asyncio.Task[None]] = set()
        self._closed = False

    def respond(self, changes: AsyncGenerator[Put | Refresh, None]) -> StreamingResponse:
        return StreamingResponse(self._pump(changes), media_type="text/event-stream", headers=_HEADERS)

    def close(self) -> None:
        self._closed = True
        for pump in self._pumps:
            pump.cancel()

    async def _pump(self, changes: AsyncGenerator[Put | Refresh, None]) -> AsyncGenerator[str, None]:
        yield _KEEP_ALIVE  # the headers leave at once
        queue: asyncio.Queue[str | None] = asyncio.Queue(1)
        pump = asyncio.create_task(_fill(queue, changes), name="live page")
        self._pumps.add(pump)
        pump.add_done_callback(self._pumps.discard)
        try:
            while not self._closed:
                try:
                    chunk = await asyncio.wait_for(queue.get(), self._quiet)
                except TimeoutError:
                    chunk = _KEEP_ALIVE
                if chunk is None:
                    return
                yield chunk
        finally:
            pump.cancel()
            await asyncio.wait([pump])  # what the changes come from is let go


async def _fill(queue: asyncio.Queue[str | None], changes: AsyncGenerator[Put | Refresh, None]) -> None:
    """All changes, then None, also when it is cancelled or fails: the page's browser connects anew and is refreshed."""
    try:
        async with aclosing(changes):
            async for change in changes:
                await queue.put(encoded(change))
        await queue.put(None)
    except BaseException:
        if queue.full():
            queue.get_nowait()
        queue.put_nowait(None)
        raise


async def merged(*sources: AsyncGenerator[Put | Refresh, None]) -> AsyncGenerator[Put | Refresh, None]:
    """What comes from any of them, as it comes; ends, or fails, with the first one that does."""
    queue: asyncio.Queue[Put | Refresh] = asyncio.Queue(1)

    async def carry(source: AsyncGenerator[Put | Refresh, None]) -> None:
        async with aclosing(source):
            async for change in source:
                await queue.put(change)

    carriers = [asyncio.create_task(carry(source), name="part of a live page") for source in sources]
    getting: asyncio.Task[Put | Refresh] | None = None
    try:
        while not any(carrier.done() for carrier in carriers):
            getting = getting or asyncio.create_task(queue.get(), name="next of a live page")
            await asyncio.wait({getting, *carriers}, return_when=asyncio.FIRST_COMPLETED)
            if getting.done():
                change, getting = getting.result(), None
                yield change
        for carrier in carriers:
            if carrier.done():
                carrier.result()
    finally:
        for task in (*carriers, *([getting] if getting else [])):
            task.cancel()
        await asyncio.gather(*carriers, return_exceptions=True)


def encoded(change: Put | Refresh) -> str:
    name = "refresh" if isinstance(change, Refresh) else "put"
    return f"event: {name}\ndata: {json.dumps(asdict(change), ensure_ascii=False)}\n\n"
