"""The builder's API: builds, their events, images."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Path, Query, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import ConfigDict, Field, JsonValue

from image_builder.build_queue import BuildQueue
from image_builder.contract import BuildEvent, BuildRequest, BuildState, BuildStatus, Problem, Wire
from image_builder.kept_image import is_whole
from image_builder.oci.layout import Layout

_ID, _DIGEST = "4f2a9d0c31b7e6584f2a9d0c31b7e658", "sha256:" + "4f" * 32
_PROBLEM: dict[str, JsonValue] = {
    "code": "version_not_found",
    "cause": "deployment.yaml:9:13: build.components.libs: there is no torch==9.9 for python 3.11 on linux/amd64",
    "fix": "Ask for a version that exists: 2.5.1 is the newest.",
    "retryable": False,
    "docs": "/docs/errors/version_not_found",
}


class ErrorAnswer(Wire):
    """Every error answer of this API."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"error": _PROBLEM}]})

    error: Problem


class ImageRow(Wire):
    """An image kept by this builder; pull it as `<this host>/<repository>@<digest>`."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"repository": f"builds/{_ID}", "digest": _DIGEST, "size": 48_210_334, "created": 1_767_225_600.0}
            ]
        }
    )

    repository: str
    digest: str
    size: int = Field(description="Sum of the compressed layers, in bytes.")
    created: float = Field(description="Unix time, seconds.")


class EventStream(StreamingResponse):
    """Not FastAPI's own: that one logs a traceback when a listener leaves at the wrong moment (0.165)."""

    media_type = "text/event-stream"


class Health(Wire):
    model_config = ConfigDict(json_schema_extra={"examples": [{"status": "ok", "queued": 0, "running": 1}]})

    status: str
    queued: int = Field(description="Builds that wait.")
    running: int = Field(description="Builds that run.")


def _queue(request: Request) -> BuildQueue:
    queue: BuildQueue = request.app.state.queue
    return queue


Queue = Annotated[BuildQueue, Depends(_queue)]
_ALL = 1_000_000_000
BuildId = Annotated[str, Path(description="The id of a build, 32 hex digits.")]
Limit = Annotated[int, Query(ge=1, le=1000, description="At most so many, newest first.")]
_Answers = dict[int | str, dict[str, Any]]
DENIED: _Answers = {401: {"model": ErrorAnswer, "description": "API_TOKEN is set, and was not sent."}}
BODY: _Answers = {
    400: {"model": ErrorAnswer, "description": "The body is no text."},
    408: {"model": ErrorAnswer, "description": "The body came too slowly."},
    413: {"model": ErrorAnswer, "description": "The body is too large."},
}
ANY: _Answers = {
    **DENIED,
    422: {"model": ErrorAnswer, "description": "The call, or what is asked for, is not right."},
    500: {"model": ErrorAnswer, "description": "A fault of the builder; its log has more."},
}
_MISSING: _Answers = {404: {"model": ErrorAnswer, "description": "There is no such build."}}
_REFUSED: _Answers = {
    **BODY,
    409: {"model": ErrorAnswer, "description": "A file changed while it was read; ask again."},
    429: {"model": ErrorAnswer, "description": "Too many builds wait; see Retry-After."},
    503: {"model": ErrorAnswer, "description": "The builder is stopping; see Retry-After."},
    507: {"model": ErrorAnswer, "description": "The disk is full."},
}

_EVENT = 'id: 9\ndata: {"sequence":9,"kind":"layer","message":"torch: built","layer":{"name":"torch", …}}\n\n'
_STREAM: _Answers = {
    200: {
        "description": "Server-sent events.",
        "content": {
            "text/event-stream": {
                "schema": {"type": "object", "properties": {"id": {"type": "string"}, "data": {"type": "string"}}},
                "example": _EVENT,
            }
        },
    }
}

router = APIRouter(responses=ANY)


@router.post(
    "/builds",
    summary="Ask for an image",
    status_code=202,
    responses={200: {"model": BuildStatus, "description": "The image is there."}, **_REFUSED},
    tags=["builds"],
)
async def ask(body: BuildRequest, queue: Queue, response: Response) -> BuildStatus:
    """The same inputs have one build, whoever asks and however often: it is joined, or its image answered at once.

    A build that failed or was cancelled is run again.
    """
    status = await queue.submit(body)
    response.status_code = 200 if status.state is BuildState.SUCCEEDED else 202
    return status


@router.get("/builds", summary="Builds, newest first", tags=["builds"])
async def list_builds(queue: Queue, state: BuildState | None = None, limit: Limit = 100) -> list[BuildStatus]:
    return await queue.newest(state, limit)


@router.get("/builds/{build_id}", summary="One build", responses=_MISSING, tags=["builds"])
async def show(build_id: BuildId, queue: Queue) -> BuildStatus:
    return await queue.status(build_id)


async def _known(build_id: BuildId, queue: Queue) -> str:
    """A build that is not there is an answer of its own, before the stream begins."""
    return (await queue.status(build_id)).id


@router.get(
    "/builds/{build_id}/events",
    summary="What happens in a build",
    response_class=Response,  # without a media type of its own: errors stay JSON
    responses=_STREAM | _MISSING,
    tags=["builds"],
)
async def events(
    known: Annotated[str, Depends(_known)],
    queue: Queue,
    after: Annotated[int, Query(ge=0, description="Number of the last event that the caller has.")] = 0,
    last_event_id: Annotated[int | None, Header(ge=0, description="As `after`, which it overrides.")] = None,
) -> EventStream:
    """Server-sent events, each with a `BuildEvent` as data: first the history, then what happens.

    The stream ends after the event of kind `done`. Should it end without one, the builder is restarting: ask again
    with the number of the last event.
    """
    found = queue.events(known, after if last_event_id is None else last_event_id)
    return EventStream(_as_text(found), headers={"Cache-Control": "no-cache", "X-Accel-Buffering": "no"})


async def _as_text(events: AsyncIterator[BuildEvent | None]) -> AsyncIterator[str]:
    """The wire format; comments keep the connection alive, for proxies close what is silent.

    https://html.spec.whatwg.org/multipage/server-sent-events.html
    """
    async for event in events:
        yield f"id: {event.sequence}\ndata: {event.model_dump_json()}\n\n" if event else ": still here\n\n"


@router.delete("/builds/{build_id}", summary="Leave or cancel a build", responses=_MISSING, tags=["builds"])
async def release(
    build_id: BuildId,
    queue: Queue,
    owner: Annotated[str | None, Query(description="Who leaves; without it the build is cancelled for all.")] = None,
) -> BuildStatus:
    """The last owner to leave cancels the build: what ran is dead when the answer comes."""
    return await queue.release(build_id, owner)


@router.get("/images", summary="The images kept here, newest first", tags=["images"])
async def images(queue: Queue, request: Request, limit: Limit = 100) -> list[ImageRow]:
    """An image that was cleared away, or has lost a part, is not among them; POST /builds makes it anew."""
    layout = Layout(request.app.state.layout.folder)  # one that tells nobody: being listed is no use of an image
    rows: list[ImageRow] = []
    for build in await queue.newest(BuildState.SUCCEEDED, _ALL):
        if len(rows) < limit and build.image and await asyncio.to_thread(is_whole, layout, build.image.digest):
            named = build.image.model_dump(include={"repository", "digest", "size"})
            rows.append(ImageRow(**named, created=build.finished or build.created))
    return rows


@router.get("/healthz", summary="Does it serve?", tags=["service"])
async def healthz(queue: Queue) -> Health:
    return Health(status="ok", queued=queue.count(BuildState.QUEUED), running=queue.count(BuildState.RUNNING))
