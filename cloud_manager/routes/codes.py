"""What an error's code means in general, for pages that are not the manager's own."""

from __future__ import annotations

from fastapi import APIRouter, Request

from cloud_manager.api_models import CodeAnswer
from cloud_manager.errors import NotFound
from cloud_manager.problem_words import speak
from cloud_manager.routes.api import KNOWN, OTHER
from image_builder.problem_words.answers import language_of

router = APIRouter(prefix="/api/v1", tags=["about"], responses=OTHER)


@router.get("/errors/{code}", summary="What an error's code means", responses={404: KNOWN[404]})
async def code(request: Request, code: str) -> CodeAnswer:
    """In the language of Accept-Language; /docs/errors has them all as pages."""
    meaning = speak(language_of(request.headers)).meanings.get(code)
    if meaning is None:
        raise NotFound(f"there is no error with the code {code[:64]!r}", "See /docs/errors for those there are.")
    return CodeAnswer(code=code, cause=meaning.cause, fix=meaning.fix)
