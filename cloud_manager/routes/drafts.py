"""deployment.yaml over HTTP: read it, judge it while it is written, put it into the project."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request

from cloud_manager import yaml_file
from cloud_manager.api_models import DraftAnswer, ErrorAnswer, FileAnswer
from cloud_manager.deployment import Key
from cloud_manager.errors import BadRequest
from cloud_manager.names import check_id
from cloud_manager.routes.api import ACTING, KNOWN, OTHER
from cloud_manager.routes.guard import BodyTooLarge, meant
from cloud_manager.routes.parts import Parts
from cloud_manager.routes.project import Project

_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/yaml": {  # https://www.rfc-editor.org/rfc/rfc9512
                "schema": {"type": "string"},
                "example": "deploy:\n  type: docker\n  entrypoint: [server.py]\n",
            }
        },
    }
}
_TAKEN: dict[int | str, dict[str, Any]] = {
    403: ACTING[403],
    413: {"model": ErrorAnswer, "description": "The text is over 1 MiB."},
}

router = APIRouter(prefix="/api/v1", tags=["deployment.yaml"], responses=OTHER)


async def _text(request: Request) -> bytes:
    """The body as it comes, whatever it is said to be.

    Raises:
        BodyTooLarge: it is not taken in.
    """
    parts, size = [], 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > yaml_file.LIMIT:
            raise BodyTooLarge(yaml_file.LIMIT)
        parts.append(chunk)
    return b"".join(parts)


Text = Annotated[bytes, Depends(_text)]
UserId = Annotated[str | None, Query(description="With project_id: its files are judged too.")]


@router.post(
    "/validate",
    summary="Judge a text as `start` would",
    dependencies=[Depends(meant)],
    responses={**KNOWN, **_TAKEN},
    openapi_extra=_BODY,
)
async def validate(parts: Parts, text: Text, user_id: UserId = None, project_id: str | None = None) -> DraftAnswer:
    """Nothing is written or started. Also tells what the target of the file will ignore."""
    if (user_id is None) != (project_id is None):
        raise BadRequest("one of user_id and project_id is missing", "Give both, or neither")
    key = Key(check_id(user_id, "user_id"), check_id(project_id, "project_id")) if user_id and project_id else None
    return DraftAnswer.of(await parts.drafts.judge(text, key))


@router.get(
    "/deployments/{user_id}/{project_id}/yaml", summary="The project's deployment.yaml as it is now", responses=KNOWN
)
async def read(parts: Parts, key: Project) -> FileAnswer:
    """What stands in the file now, which may differ from what runs, and everything that is to be said of it."""
    text, judgement = await parts.drafts.read(key)
    return FileAnswer(text=text.decode(errors="replace"), verdict=DraftAnswer.of(judgement))


@router.put(
    "/deployments/{user_id}/{project_id}/yaml",
    summary="Replace the project's deployment.yaml",
    dependencies=[Depends(meant)],
    responses={
        **KNOWN,
        **_TAKEN,
        422: {"model": ErrorAnswer, "description": "The text is not right: every finding. Nothing is written."},
        507: {"model": ErrorAnswer, "description": "The shared disk cannot be written by the manager."},
    },
    openapi_extra=_BODY,
)
async def write(parts: Parts, key: Project, text: Text) -> DraftAnswer:
    """At once and whole; the project's folder is made where it is missing. What runs is not touched: `start` does."""
    return DraftAnswer.of(await parts.drafts.write(key, text))
