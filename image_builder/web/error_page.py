"""`/docs/errors/CODE`: what an error's code means, where the problems on the other pages point to."""

from __future__ import annotations

import re

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from image_builder.contract import ERROR_PAGES
from image_builder.problem_words.speech import speak
from image_builder.web.pages import language_of
from image_builder.web.parts import parts_of

_CODE = re.compile(r"[a-z0-9_]{1,64}")


async def code(request: Request) -> Response:
    """The builder's own codes, and the manager's, which is asked."""
    parts, language, name = parts_of(request), language_of(request), request.path_params["code"]
    if not _CODE.fullmatch(name):
        raise HTTPException(404)
    meaning = speak(language).meanings.get(name) or await parts.manager.meaning(language, name)
    return parts.pages.page(request, "error.html", code=name, meaning=meaning)


ROUTES = (Route(f"{ERROR_PAGES}/{{code}}", code),)
