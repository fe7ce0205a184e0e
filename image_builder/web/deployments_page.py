"""`/`: every project."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from image_builder.web.pages import language_of
from image_builder.web.parts import parts_of


async def deployments(request: Request) -> Response:
    parts = parts_of(request)
    page = await parts.manager.deployments(language_of(request))
    return parts.pages.page(request, "deployments.html", here="deployments", rows=page.items)


ROUTES = (Route("/", deployments),)
