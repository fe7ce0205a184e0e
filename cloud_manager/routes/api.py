"""`/api/v1`: JSON for people's tools. What streams is in `streams.py`."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query
from fastapi.responses import PlainTextResponse, Response

from cloud_manager.api_models import (
    DeploymentAnswer,
    DeploymentPage,
    ErrorAnswer,
    EventAnswer,
    EventPage,
    TargetsAnswer,
)
from cloud_manager.deployment import Deployment, Event, Key, Phase
from cloud_manager.deployment_yaml import json_schema
from cloud_manager.errors import BadRequest
from cloud_manager.routes.guard import meant, small_body
from cloud_manager.routes.parts import Collaborators, Parts
from cloud_manager.routes.project import KnownRow, Project, known_row
from cloud_manager.routes.service_logs import log_lines

_SCANNED = 1000
"""Rows that one filtered page may read: the answer comes soon, `next` leads on."""

BAD: dict[int | str, dict[str, Any]] = {
    400: {"model": ErrorAnswer, "description": "A parameter is not right."},
    503: {"model": ErrorAnswer, "description": "Something that is needed does not answer now."},
}
KNOWN: dict[int | str, dict[str, Any]] = {**BAD, 404: {"model": ErrorAnswer, "description": "No such project."}}
ACTING: dict[int | str, dict[str, Any]] = {
    **KNOWN,
    403: {"model": ErrorAnswer, "description": "A page of another origin made the call."},
    413: {"model": ErrorAnswer, "description": "The body is too large; none is needed."},
}
STARTING: dict[int | str, dict[str, Any]] = {
    **ACTING,
    422: {"model": ErrorAnswer, "description": "deployment.yaml is not right: every finding."},
}

OTHER: dict[int | str, dict[str, Any]] = {
    401: {"model": ErrorAnswer, "description": "API_TOKEN is set, and was not sent."},
    "default": {"model": ErrorAnswer, "description": "Any other error."},
}

router = APIRouter(prefix="/api/v1", responses=OTHER)


@router.get("/deployments", summary="All projects", tags=["deployments"], responses=BAD)
async def deployments(
    parts: Parts,
    after: Annotated[str, Query(description="`next` of the page before.", examples=["7/42"])] = "",
    limit: Annotated[int, Query(ge=1, le=500)] = 100,
    phase: Annotated[Phase | None, Query(description="Only projects in this phase.")] = None,
) -> DeploymentPage:
    """In the order of their ids."""
    rows, cursor = await _scan(parts, _cursor(after), limit, phase)
    return DeploymentPage(items=await _answers(parts, rows), next=str(cursor) if cursor else None)


@router.get("/deployments/{user_id}/{project_id}", summary="One project", tags=["deployments"], responses=KNOWN)
async def deployment(parts: Parts, row: KnownRow) -> DeploymentAnswer:
    return (await _answers(parts, [row]))[0]


@router.post(
    "/deployments/{user_id}/{project_id}/start",
    summary="Make the project run as its deployment.yaml says",
    tags=["deployments"],
    status_code=202,
    dependencies=[Depends(meant), Depends(small_body)],
    responses=STARTING,
)
async def start(parts: Parts, key: Project) -> DeploymentAnswer:
    """Answers at once; follow `events/stream`. Repeating it with the same file changes nothing."""
    await parts.deployments.start(key)
    return _answer(parts, await known_row(parts, key))


@router.post(
    "/deployments/{user_id}/{project_id}/stop",
    summary="Stop the project and remove what runs of it",
    tags=["deployments"],
    status_code=202,
    dependencies=[Depends(meant), Depends(small_body)],
    responses=ACTING,
)
async def stop(parts: Parts, key: Project) -> DeploymentAnswer:
    """Answers at once; follow `events/stream`. Repeating it is harmless."""
    await parts.deployments.stop(key)
    return _answer(parts, await known_row(parts, key))


@router.get("/deployments/{user_id}/{project_id}/events", summary="History", tags=["history"], responses=KNOWN)
async def events(
    parts: Parts,
    row: KnownRow,
    after: Annotated[int, Query(ge=0, lt=2**63, description="Sequence of the last event that is known.")] = 0,
    limit: Annotated[int, Query(ge=1, le=1000)] = 200,
) -> EventPage:
    """What happened to the project, oldest first."""
    found = await parts.store.events(row.key, after=after, limit=limit + 1)
    items = tuple(EventAnswer.of(event) for event in found[:limit])
    return EventPage(items=items, next=items[-1].sequence if len(found) > limit else None)


@router.get(
    "/deployments/{user_id}/{project_id}/logs",
    summary="The service's last log lines",
    tags=["logs"],
    response_class=Response,  # Without a media type of its own: errors stay JSON.
    responses={200: {"content": {"text/plain": {"schema": {"type": "string"}, "example": "GET / 200\n"}}}, **KNOWN},
)
async def logs(
    parts: Parts, row: KnownRow, tail: Annotated[int, Query(ge=1, le=10_000, description="Lines.")] = 200
) -> PlainTextResponse:
    lines = [line async for line in log_lines(parts, row, tail=tail, follow=False)]
    return PlainTextResponse("".join(f"{line}\n" for line in lines), headers={"Cache-Control": "no-store"})


@router.get("/targets", summary="Where this manager can run services", tags=["about"])
async def targets(parts: Parts) -> TargetsAnswer:
    names = parts.targets.available()
    return TargetsAnswer(targets=names, ignores={name: parts.targets.get(name).ignores for name in names})


@router.get(
    "/schema",
    summary="JSON Schema of deployment.yaml",
    tags=["about"],
    responses={200: {"content": {"application/json": {"example": {"type": "object", "required": ["deploy"]}}}}},
)
async def schema() -> dict[str, Any]:
    """For the completion of editors; every sample links it."""
    return json_schema()


async def _scan(
    parts: Collaborators, after: Key | None, limit: int, phase: Phase | None
) -> tuple[list[Deployment], Key | None]:
    """Up to `limit` rows, and the key to read on from: None at the end."""
    found: list[Deployment] = []
    for _ in range(_SCANNED // limit + 1):
        page = await parts.store.page(after=after, limit=limit)
        for row in page:
            after = row.key
            if phase is None or row.phase == phase:
                found.append(row)
            if len(found) == limit:
                return found, after
        if len(page) < limit:
            return found, None
    return found, after


def _cursor(after: str) -> Key | None:
    if not after:
        return None
    user_id, slash, project_id = after.partition("/")
    if not slash:
        raise BadRequest(f"after={after!r} is not a place in the list", "Give the `next` of the page before, e.g. 7/42")
    return Key(user_id, project_id)


async def _answers(parts: Collaborators, rows: list[Deployment]) -> tuple[DeploymentAnswer, ...]:
    """With the last event of each."""
    last = await parts.store.last_events([row.key for row in rows])
    return tuple(_answer(parts, row, last.get(row.key)) for row in rows)


def _answer(parts: Collaborators, row: Deployment, last: Event | None = None) -> DeploymentAnswer:
    shown = EventAnswer.of(last) if last else None
    return DeploymentAnswer.of(row, parts.controller.build_status(row.key), shown)
