"""The manager's HTTP face: the routes, what surrounds them, and the one place where errors become answers."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from http import HTTPStatus

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from fastapi_offline import FastAPIOffline
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp

from cloud_manager.access import Access
from cloud_manager.errors import BadRequest, DeployError
from cloud_manager.problem_words import speak
from cloud_manager.request_log import RequestLog
from cloud_manager.routes import api, changes, codes, drafts, health, metrics, preflight, revisions, streams, tango
from cloud_manager.routes.parts import Collaborators
from image_builder.contract import Problem
from image_builder.edge.body_limit import BodyLimit
from image_builder.edge.pages import OwnHostOnly
from image_builder.problem_words.answers import SpokenAnswers, language_of
from image_builder.problem_words.pages import pages

log = logging.getLogger(__name__)

_ABOUT = """One `deployment.yaml` becomes a running service.

* **TANGO**: the four GETs of TANGO's project manager, in plain words.
* **/api/v1**: the same and more for people's tools, in JSON. Every error is `{"error": {code, cause, fix, retryable}}`.
"""


_LARGEST_BODY = 1 << 20
_BODY_SECONDS = 30.0
_OPEN = frozenset({"/healthz"})


def create_app(
    parts: Collaborators, *, on_death: Callable[[], None], token: str = "", tango_needs_token: bool = False
) -> FastAPI:
    """The application; its lifespan runs the controller. It is served through `face`.

    Args:
        on_death: called when the controller ends by itself; the process must end then, for its words would grow stale.
        token: what everything but TANGO's four GETs and /healthz asks for; empty: nothing does.
        tango_needs_token: the four ask for it, too.
    """
    lifespan = _lifespan(parts, on_death)
    app = FastAPIOffline(
        title="Cloud Deploy",
        description=_ABOUT,
        version="1",
        lifespan=lifespan,
        swagger_ui_parameters={"validatorUrl": None},  # A badge from another host.
    )
    app.add_middleware(BodyLimit, largest=_LARGEST_BODY, patience=_BODY_SECONDS)
    if token:
        unguarded = _OPEN if tango_needs_token else _OPEN | tango.PATHS
        app.add_middleware(Access, token=token, is_open=lambda scope: scope["path"] in unguarded, refuse=_refuse)
    app.add_middleware(OwnHostOnly)
    app.state.parts = parts
    for each in (tango, api, codes, drafts, changes, revisions, preflight, streams, health, metrics):
        app.include_router(each.router)
    app.include_router(pages(speak))
    _answer_errors(app)
    return app


def face(app: FastAPI, parts: Collaborators, *, tango_needs_token: bool = False) -> ASGIApp:
    """As it is served: in the caller's language, logged, counted, and what is known at once answered in front."""
    logged = RequestLog(SpokenAnswers(app, speak=speak), parts.metrics.request)
    if tango_needs_token:
        return logged
    words = tango.StatusWords(logged, parts.board)
    parts.metrics.show_words(lambda: words.answered)
    return words


def _lifespan(
    parts: Collaborators, on_death: Callable[[], None]
) -> Callable[[FastAPI], AbstractAsyncContextManager[None]]:
    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        running = asyncio.create_task(parts.controller.run(), name="controller")

        def died(task: asyncio.Task[None]) -> None:
            _tell_death(task)
            on_death()

        running.add_done_callback(died)
        yield
        running.remove_done_callback(died)
        running.cancel()
        await asyncio.wait([running])

    return lifespan


def _tell_death(controller: asyncio.Task[None]) -> None:
    cause = None if controller.cancelled() else controller.exception()
    log.critical("the controller ended: so does this process, that no stale word is served", exc_info=cause)


def _answer_errors(app: FastAPI) -> None:
    app.exception_handler(DeployError)(_deploy_error)
    app.exception_handler(RequestValidationError)(_validation_error)
    app.exception_handler(HTTPException)(_http_error)
    app.exception_handler(Exception)(_unexpected)


async def _deploy_error(request: Request, error: DeployError) -> Response:
    return _refuse(request, error)


def _refuse(request: Request, error: DeployError) -> Response:
    return _answer(request, error.problem, error.http_status)


async def _validation_error(request: Request, error: RequestValidationError) -> Response:
    findings = "; ".join(f"{_place(each['loc'])}: {_words(each['msg'])}" for each in error.errors())
    problem = BadRequest(findings, "See /docs for what this call takes").problem
    return _answer(request, problem, BadRequest.http_status)


async def _http_error(request: Request, error: HTTPException) -> Response:
    """What the framework says by itself: no such path, no such method."""
    path = request.url.path
    known = {
        404: Problem(code="no_such_path", cause=f"there is nothing at {path}", fix="See /docs for the calls there are"),
        405: Problem(
            code="method_not_allowed",
            cause=f"{request.method} is not for {path}",
            fix=f"Use {(error.headers or {}).get('Allow', 'another method')}; see /docs",
        ),
    }
    phrase = HTTPStatus(error.status_code).phrase.lower()
    other = Problem(code=phrase.replace(" ", "_"), cause=str(error.detail), fix="See /docs for what this call takes")
    return _answer(request, known.get(error.status_code, other), error.status_code, error.headers)


async def _unexpected(request: Request, error: Exception) -> Response:
    """A mistake of ours: the server logs the traceback, the caller need not see it."""
    log.error("%s %s failed: %s", request.method, request.url.path, type(error).__name__)
    problem = Problem(
        code="internal", cause="internal error", fix="Look into the log of cloud_manager, and report it", retryable=True
    )
    return _answer(request, problem, 500)


def _answer(request: Request, problem: Problem, status: int, headers: Mapping[str, str] | None = None) -> Response:
    """TANGO's paths get a line of text, all others JSON."""
    if request.url.path in tango.PATHS:
        told = speak(language_of(request.headers)).problem(problem)
        response: Response = tango.answer(tango.error_line(told), status)
    else:
        response = JSONResponse({"error": problem.model_dump()}, status)
    response.headers.update(headers or {})
    return response


def _place(location: tuple[str | int, ...]) -> str:
    return " ".join(str(part) for part in location)


def _words(message: str) -> str:
    return message[:1].lower() + message[1:]
