"""Server-sent events: https://html.spec.whatwg.org/multipage/server-sent-events.html

One pump for every stream of ours: a keep-alive comment while nothing happens, a `problem` event when it cannot go on,
and an end when the server goes down, so that an open stream never holds up a stop.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from typing import Annotated

from fastapi import Header, Query
from fastapi.responses import StreamingResponse
from pydantic import BaseModel

from cloud_manager.errors import BadRequest, DeployError

_KEEP_ALIVE = b": keep-alive\n"
"""No blank line after it: httpx-sse would take that for the end of an event that has an id and no data."""

_AHEAD = 64  # Events read ahead of a slow client.
_HEADERS = {
    "Cache-Control": "no-store",
    # https://nginx.org/en/docs/http/ngx_http_proxy_module.html: it would hold the events back.
    "X-Accel-Buffering": "no",
}


class EventStreamResponse(StreamingResponse):
    media_type = "text/event-stream"


@dataclass(frozen=True, slots=True)
class Message:
    """One event of a stream. `data` may have several lines."""

    data: str
    event: str | None = None
    id: int | None = None

    def encode(self) -> bytes:
        lines = [] if self.id is None else [f"id: {self.id}"]
        if self.event is not None:
            lines.append(f"event: {self.event}")
        # Only these three end a line of a stream; str.splitlines would cut at form feeds and others too.
        data = self.data.replace("\r\n", "\n").replace("\r", "\n")
        lines += [f"data: {line}" for line in data.split("\n")]
        return ("\n".join(lines) + "\n\n").encode()


Messages = AsyncGenerator[Message, None]


def json_message(body: BaseModel, *, event: str | None = None, id: int | None = None) -> Message:
    return Message(body.model_dump_json(), event=event, id=id)


class EventStreams:
    """The streams that are open in this process."""

    def __init__(self, keep_alive: float = 15.0) -> None:
        """keep_alive: seconds of silence after which a comment is sent."""
        self._keep_alive = keep_alive
        self._feeders: set[asyncio.Task[None]] = set()
        self._closed = False

    def respond(self, messages: Messages) -> EventStreamResponse:
        return EventStreamResponse(self._pump(messages), headers=_HEADERS)

    def close(self) -> None:
        """End every stream, now and to come: the server goes down. Clients resume at the next one."""
        self._closed = True
        for feeder in self._feeders:
            feeder.cancel()

    async def _pump(self, messages: Messages) -> AsyncGenerator[bytes, None]:
        yield _KEEP_ALIVE  # The headers leave at once: a client sees that it is connected.
        queue: asyncio.Queue[bytes | None] = asyncio.Queue(_AHEAD)
        feeder = asyncio.create_task(_feed(messages, queue), name="event stream")
        self._feeders.add(feeder)
        feeder.add_done_callback(self._feeders.discard)
        try:
            while not self._closed:
                try:
                    chunk = await asyncio.wait_for(queue.get(), self._keep_alive)
                except TimeoutError:
                    chunk = _KEEP_ALIVE
                if chunk is None:
                    return
                yield chunk
        finally:
            feeder.cancel()


async def _feed(messages: Messages, queue: asyncio.Queue[bytes | None]) -> None:
    """All messages, then None. What the messages come from is closed here, in the task that read it."""
    try:
        async with aclosing(messages):
            async for each in messages:
                await queue.put(each.encode())
    except DeployError as error:
        await queue.put(json_message(error.problem, event="problem").encode())
    except asyncio.CancelledError:
        if queue.full():
            queue.get_nowait()  # The client resumes by id, so nothing is lost.
        queue.put_nowait(None)
        raise
    await queue.put(None)


async def resume_after(
    after: Annotated[int, Query(ge=0, lt=2**63, description="Sequence of the last event that is known.")] = 0,
    last_event_id: Annotated[
        str | None, Header(description="What a browser's EventSource sends when it reconnects; wins over `after`.")
    ] = None,
) -> int:
    """Where a stream goes on. A dependency of FastAPI."""
    if not last_event_id:
        return after
    if not (last_event_id.isascii() and last_event_id.isdigit() and len(last_event_id) < 19):
        raise BadRequest("the header Last-Event-ID is not a number", "Send the id of the last event that was received")
    return int(last_event_id)
