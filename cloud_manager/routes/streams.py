"""The server-sent events of `/api/v1`: history, logs, and the build that is under way."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query
from fastapi.responses import Response

from cloud_manager.api_models import EventAnswer
from cloud_manager.deployment import Deployment, Key
from cloud_manager.errors import NotFound
from cloud_manager.routes.api import KNOWN, OTHER
from cloud_manager.routes.event_stream import EventStreamResponse, Message, Messages, json_message, resume_after
from cloud_manager.routes.parts import Collaborators, Parts
from cloud_manager.routes.project import KnownRow
from cloud_manager.routes.service_logs import log_lines

_BUILD_PERIOD = 0.25
"""Seconds between two looks for the build of a project that was just started."""

ResumeAfter = Annotated[int, Depends(resume_after)]


def _stream(example: str) -> dict[int | str, dict[str, Any]]:
    event = {"type": "object", "properties": {name: {"type": "string"} for name in ("id", "event", "data")}}
    content = {"text/event-stream": {"schema": event, "example": example}}
    return {
        200: {"description": "Server-sent events; a `problem` event says why a stream ends early.", "content": content},
        **KNOWN,
    }


# `Response` has no media type of its own, so that errors are described as the JSON they are.
router = APIRouter(
    prefix="/api/v1/deployments/{user_id}/{project_id}", default_response_class=Response, responses=OTHER
)


@router.get(
    "/events/stream",
    summary="History, then what happens now",
    tags=["history"],
    responses=_stream('id: 118\ndata: {"sequence":118,"kind":"phase","message":"running", …}\n\n'),
)
async def events(parts: Parts, row: KnownRow, after: ResumeAfter) -> EventStreamResponse:
    """The id of an event is its sequence; a client that reconnects with Last-Event-ID misses nothing."""
    return parts.streams.respond(_history(parts, row.key, after))


async def _history(parts: Collaborators, key: Key, after: int) -> Messages:
    async for event in parts.feed.follow(key, after=after):
        yield json_message(EventAnswer.of(event), id=event.sequence)


@router.get(
    "/logs/stream",
    summary="The service's log lines as they come",
    tags=["logs"],
    responses=_stream("data: listening on 8080\n\n"),
)
async def logs(
    parts: Parts, row: KnownRow, tail: Annotated[int, Query(ge=0, le=10_000, description="Lines to begin with.")] = 200
) -> EventStreamResponse:
    """One event per line, as plain text."""
    lines = log_lines(parts, row, tail=tail, follow=True)

    async def messages() -> Messages:
        async for line in lines:
            yield Message(line)

    return parts.streams.respond(messages())


@router.get(
    "/build/stream",
    summary="Progress of the project's build",
    tags=["history"],
    responses=_stream('id: 9\nevent: layer\ndata: {"sequence":9,"kind":"layer","layer":{"name":"torch", …}}\n\n'),
)
async def build(parts: Parts, row: KnownRow, after: ResumeAfter) -> EventStreamResponse:
    """The builder's own events (`BuildEvent`): steps, layers with bytes, log lines, and a last `done`."""
    if row.facts.build_id is None and row.phase.at_rest:
        raise NotFound(f"project {row.key} has no build", "Start it; a prebuilt image needs none")
    return parts.streams.respond(_build(parts, row, after))


async def _build(parts: Collaborators, row: Deployment | None, after: int) -> Messages:
    while row and row.facts.build_id is None and not row.phase.at_rest:
        await parts.clock.sleep(_BUILD_PERIOD)
        row = await parts.store.get(row.key)
    if row and row.facts.build_id:
        async for event in parts.builder.events(row.facts.build_id, after=after):
            yield json_message(event, event=event.kind, id=event.sequence)
