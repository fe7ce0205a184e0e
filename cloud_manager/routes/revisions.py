"""`/api/v1`: the revisions of a project that ran well, and the way back to one of them."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query
from pydantic import ConfigDict, Field, JsonValue

from cloud_manager.api_models import Answer, DeploymentAnswer, ErrorAnswer
from cloud_manager.deployment_spec import DeploymentSpec
from cloud_manager.revisions import Revision, revision_wanted
from cloud_manager.routes.api import ACTING, KNOWN, OTHER
from cloud_manager.routes.guard import meant, small_body
from cloud_manager.routes.parts import Parts
from cloud_manager.routes.project import KnownRow, Project, known_row
from image_builder.contract import ImageReference

_EXAMPLE_REVISION: dict[str, JsonValue] = {
    "revision": "0f3a9b1c2d4e5f60",
    "wanted": True,
    "generation": 3,
    "target": "local",
    "image": {"repository": "builds/4f2a", "digest": "sha256:" + "4f" * 32, "size": 48_210_334, "pushed": None},
    "image_uri": None,
    "resolved_uri": None,
    "first_running": 1767225609.5,
    "since": 1767225609.5,
    "until": None,
    "spec": {"build": {"components": {"libs": ["flask>=3"]}}, "deploy": {"type": "local", "entrypoint": ["main.py"]}},
}


class RevisionAnswer(Answer):
    """One that ran well; a rollback brings it back with this spec and this image."""

    model_config = ConfigDict(frozen=True, json_schema_extra={"examples": [_EXAMPLE_REVISION]})

    revision: str
    wanted: bool = Field(description="Whether the present wish is for this one.")
    generation: int = Field(description="Of the wish for which it ran last.")
    target: str | None
    image: ImageReference | None
    image_uri: str | None = Field(description="Instead of `image`, when the file names a prebuilt one.")
    resolved_uri: str | None = Field(description="What `image_uri` meant then, by its digest, if that is known.")
    first_running: float
    since: float = Field(description="When it began to serve, the last time.")
    until: float | None = Field(description="When another took its place or the project was stopped; null: it serves.")
    spec: DeploymentSpec | None = Field(description="null if another release of the manager wrote it.")

    @classmethod
    def of(cls, one: Revision, wanted: str | None) -> RevisionAnswer:
        return cls(
            revision=one.revision,
            wanted=one.revision == wanted,
            generation=one.generation,
            target=one.spec.deploy.type if one.spec else None,
            image=one.image,
            image_uri=one.image_uri,
            resolved_uri=one.resolved_uri,
            first_running=one.first_running,
            since=one.since,
            until=one.until,
            spec=one.spec,
        )


class RevisionList(Answer):
    items: tuple[RevisionAnswer, ...]


_GOING_BACK: dict[int | str, dict[str, Any]] = {
    **ACTING,
    404: {"model": ErrorAnswer, "description": "No such project, or it has no such revision."},
    409: {"model": ErrorAnswer, "description": "There is nothing to go back to."},
    422: {"model": ErrorAnswer, "description": "The target is not available, or cannot do what that revision asks."},
}

router = APIRouter(prefix="/api/v1/deployments/{user_id}/{project_id}", tags=["revisions"], responses=OTHER)


@router.get("/revisions", summary="Revisions that ran well", responses=KNOWN)
async def revisions(parts: Parts, row: KnownRow) -> RevisionList:
    """The newest first; the newest 20 are remembered."""
    wanted = revision_wanted(row)
    return RevisionList(items=tuple(RevisionAnswer.of(one, wanted) for one in await parts.store.revisions(row.key)))


@router.post(
    "/rollback",
    summary="Run an earlier revision again",
    status_code=202,
    dependencies=[Depends(meant), Depends(small_body)],
    responses=_GOING_BACK,
)
async def rollback(
    parts: Parts,
    key: Project,
    revision: Annotated[
        str | None,
        Query(
            min_length=1,
            max_length=64,
            description="Which, or its first letters; without it, the last good one before the present.",
            examples=["0f3a9b1c2d4e5f60"],
        ),
    ] = None,
) -> DeploymentAnswer:
    """Spec and image as they were: nothing of the project's files is read, nothing is built. Answers at once; follow
    `events/stream`. `start` afterwards deploys the files as they are then.
    """
    await parts.deployments.rollback(key, revision)
    return DeploymentAnswer.of(await known_row(parts, key), parts.controller.build_status(key))
