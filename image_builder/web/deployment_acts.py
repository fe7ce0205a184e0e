"""Start, stop and roll back: what the buttons of a project's page ask for."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from image_builder.web.deployment_view import Visit
from image_builder.web.forms import read_form
from image_builder.web.problems import PageProblem

_INVALID = "invalid_deployment_yaml"


async def start(request: Request) -> Response:
    """A file that is not right is shown with what is wrong in it."""
    visit = Visit.of(request)
    try:
        await _act(visit, "start")
    except PageProblem as error:
        if error.problem.code != _INVALID:
            raise
        return RedirectResponse(f"{visit.path}/yaml?refused=1", 303)
    return RedirectResponse(visit.path, 303)


async def stop(request: Request) -> Response:
    visit = Visit.of(request)
    await _act(visit, "stop")
    return RedirectResponse(visit.path, 303)


async def rollback(request: Request) -> Response:
    visit, form = Visit.of(request), await read_form(request)
    await _act(visit, "rollback", revision=form.get("revision", ""))
    return RedirectResponse(visit.path, 303)


async def _act(visit: Visit, what: str, **parameters: str) -> None:
    """The page that comes next shows it, before the manager tells everybody."""
    answer = await visit.parts.manager.act(visit.language, visit.key, what, **parameters)
    visit.parts.feeds[visit.language].take(answer)


_ONE = "/deployments/{user}/{project}"
ROUTES = tuple(Route(f"{_ONE}/{act.__name__}", act, methods=["POST"]) for act in (start, stop, rollback))
