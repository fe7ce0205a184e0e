"""`GET /api/v1/preflight`: can a deployment succeed? Asked before anything is spent."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query

from cloud_manager.deployment import Key
from cloud_manager.errors import BadRequest
from cloud_manager.names import check_id
from cloud_manager.preflight import Report
from cloud_manager.routes.api import OTHER, STARTING
from cloud_manager.routes.parts import Parts

router = APIRouter(prefix="/api/v1", responses=OTHER)
_ANSWERS: dict[int | str, dict[str, Any]] = {code: STARTING[code] for code in (400, 404, 422, 503)}


@router.get(
    "/preflight", summary="Can a deployment succeed? Asked before anything is spent", tags=["about"], responses=_ANSWERS
)
async def preflight(
    parts: Parts,
    target: Annotated[
        str | None, Query(description="As `deploy.type`; else the project's, else gcp-cloudrun.", examples=["docker"])
    ] = None,
    user_id: Annotated[str | None, Query(description="With `project_id`: ask about its file.", examples=["7"])] = None,
    project_id: Annotated[str | None, Query(examples=["42"])] = None,
) -> Report:
    """Read-only calls, each with a deadline, all at the same time: it takes some seconds. Without a project, the
    settings of the manager are asked about. What cannot be asked is `skipped`, and says why."""
    if (user_id is None) != (project_id is None):
        raise BadRequest("a project is named by both user_id and project_id", "Give both, or neither")
    if user_id is None or project_id is None:
        return await parts.preflights.run(None, target)
    return await parts.preflights.of_project(
        Key(check_id(user_id, "user_id"), check_id(project_id, "project_id")), target
    )
