"""The project that a path names, as dependencies of FastAPI."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Path

from cloud_manager.deployment import Deployment, Key
from cloud_manager.errors import NotFound
from cloud_manager.names import check_id
from cloud_manager.request_log import PROJECT
from cloud_manager.routes.parts import Collaborators, Parts

_Id = Annotated[
    str,
    Path(
        description="1-64 of letters, digits, `.`, `_`, `-`, not starting with a dot.",
        # Told here, and judged in `names.py`, whose words are better.
        json_schema_extra={"pattern": "^[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}$"},
    ),
]


async def known_row(parts: Collaborators, key: Key) -> Deployment:
    row = await parts.store.get(key)
    if row is None:
        raise NotFound(f"project {key} was never started", f"POST /api/v1/deployments/{key}/start first")
    return row


async def _project(
    user_id: Annotated[_Id, Path(examples=["7"])], project_id: Annotated[_Id, Path(examples=["42"])]
) -> Key:
    key = Key(check_id(user_id, "user_id"), check_id(project_id, "project_id"))
    PROJECT.set(str(key))
    return key


Project = Annotated[Key, Depends(_project)]


async def _known_row(parts: Parts, key: Project) -> Deployment:
    return await known_row(parts, key)


KnownRow = Annotated[Deployment, Depends(_known_row)]
