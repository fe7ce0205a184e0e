"""What changes over all projects, as server-sent events: for pages that show them all."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from fastapi.responses import Response

from cloud_manager.api_models import DeploymentAnswer, EventAnswer
from cloud_manager.routes.api import OTHER
from cloud_manager.routes.event_stream import EventStreamResponse, Message, Messages, json_message
from cloud_manager.routes.parts import Collaborators, Parts

_EXAMPLE = 'event: ready\ndata: {}\n\nevent: changed\ndata: {"user_id":"7","project_id":"42","phase":"running", …}\n\n'
_STREAM: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "Server-sent events; a `problem` event says why a stream ends early.",
        "content": {"text/event-stream": {"schema": {"type": "string"}, "example": _EXAMPLE}},
    }
}

# `Response` has no media type of its own, so that errors are described as the JSON they are.
router = APIRouter(prefix="/api/v1", default_response_class=Response, responses=OTHER)


@router.get(
    "/changes/stream", summary="Every project that changes, as it changes", tags=["deployments"], responses=_STREAM
)
async def changes(parts: Parts) -> EventStreamResponse:
    """`ready` once it listens: who then reads /api/v1/deployments, and after it what comes here, misses nothing.

    Each `changed` holds what /api/v1/deployments says of one project. Who lost the connection begins anew.
    """
    return parts.streams.respond(_changes(parts))


async def _changes(parts: Collaborators) -> Messages:
    async for batch in parts.changes.follow():
        if not batch:
            yield Message("{}", event="ready")
        for change in batch:
            last = EventAnswer.of(change.last) if change.last else None
            answer = DeploymentAnswer.of(change.row, parts.controller.build_status(change.row.key), last)
            yield json_message(answer, event="changed")
