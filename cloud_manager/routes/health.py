"""Is the process alive, and can it do its work?"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any

from fastapi import APIRouter, Response

from cloud_manager.api_models import Health, Readiness
from cloud_manager.errors import DeployError, Unavailable
from cloud_manager.routes.api import OTHER
from cloud_manager.routes.parts import Parts
from image_builder.contract import Problem

_PATIENCE = 3.0
_NO_BUILD = "0" * 32
"""An id that no build has: asking for it shows that the builder answers."""

_NOT_READY: dict[int | str, dict[str, Any]] = {
    **OTHER,
    503: {"model": Readiness, "description": "Not ready; the reasons."},
}

router = APIRouter(tags=["health"])


@router.get("/healthz", summary="Is the process alive?")
async def healthz() -> Health:
    return Health()


@router.get("/readyz", summary="Do the database and the image builder answer?", responses=_NOT_READY)
async def readyz(parts: Parts, response: Response) -> Readiness:
    answers = await asyncio.gather(
        _problem("the database", parts.store.page(limit=1)),
        _problem("the image builder", parts.builder.status(_NO_BUILD)),
    )
    problems = tuple(problem for problem in answers if problem)
    response.status_code = 503 if problems else 200
    return Readiness(ready=not problems, problems=problems)


async def _problem(what: str, question: Awaitable[object]) -> Problem | None:
    try:
        await asyncio.wait_for(question, _PATIENCE)
    except TimeoutError:
        return Unavailable(f"{what} has not answered for {_PATIENCE:g} s", "Look into its log").problem
    except DeployError as error:
        return error.problem
    return None
