"""The GUI's web application: its routes, what surrounds them, and the one place where errors become pages."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from image_builder.contract import Problem
from image_builder.edge.body_limit import BodyLimit
from image_builder.errors import BuildError
from image_builder.problem_words.speech import speak
from image_builder.web import (
    builds_page,
    deployment_acts,
    deployment_page,
    deployments_page,
    error_page,
    log_page,
    new_page,
)
from image_builder.web.login import Attempts, Login, LoginNeeded, Sessions
from image_builder.web.pages import language_of
from image_builder.web.parts import WebParts, parts_of
from image_builder.web.preferences import save_preferences
from image_builder.web.problems import ManagerAway, PageProblem
from image_builder.web.protection import Protection

log = logging.getLogger(__name__)


_LARGEST_BODY = 1 << 20
_BODY_SECONDS = 30.0


def create_web_app(parts: WebParts, hosts: tuple[str, ...] = (), token: str = "") -> Starlette:
    """Args:
    hosts: further names under which the GUI is reached; see `protection.is_own_host`.
    token: what visitors log in with; empty: nobody has to.
    """

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        yield
        await parts.aclose()

    routes = [
        *deployments_page.ROUTES,
        *log_page.ROUTES,
        *deployment_acts.ROUTES,
        *deployment_page.ROUTES,
        *builds_page.ROUTES,
        *new_page.ROUTES,
        *error_page.ROUTES,
        Route("/preferences", save_preferences, methods=["POST"]),
        Route("/static/{version}/{name}", parts.assets.answer),
        Route("/healthz", _healthz),
    ]
    middleware = [
        Middleware(Protection, hosts=hosts),
        Middleware(BodyLimit, largest=_LARGEST_BODY, patience=_BODY_SECONDS),
    ]
    if token:
        sessions = Sessions(token, parts.clock)
        routes += Login(sessions, Attempts(parts.clock)).routes
        middleware.append(Middleware(LoginNeeded, sessions=sessions))
    handlers = {
        PageProblem: _page_problem,
        BuildError: _build_error,
        HTTPException: _http_error,
        Exception: _unexpected,
    }
    app = Starlette(
        routes=routes,
        middleware=middleware,
        exception_handlers=handlers,  # type: ignore[arg-type]  # each takes the kind it is for
        lifespan=lifespan,
    )
    app.state.parts = parts
    return app


async def _healthz(_request: Request) -> Response:
    return PlainTextResponse("ok\n")


async def _page_problem(request: Request, error: PageProblem) -> Response:
    problem = error.said(language_of(request)) if isinstance(error, ManagerAway) else error.problem
    return _problem_page(request, problem, error.status)


async def _build_error(request: Request, error: BuildError) -> Response:
    return _problem_page(request, speak(language_of(request)).problem(error.problem), error.http_status)


async def _http_error(request: Request, error: HTTPException) -> Response:
    say = parts_of(request).pages.words_of(language_of(request))
    known = {404: "no_page", 405: "no_page", 413: "too_large"}
    name = known.get(error.status_code, "refused")
    phrase = HTTPStatus(error.status_code).phrase
    cause, fix = say(f"base.error.{name}.cause", path=request.url.path, phrase=phrase), say(f"base.error.{name}.fix")
    return _problem_page(request, Problem(code=name, cause=cause, fix=fix), error.status_code)


async def _unexpected(request: Request, error: Exception) -> Response:
    """A mistake of ours: the server logs the traceback, the visitor need not see it."""
    log.error("GUI: %s %s failed: %s", request.method, request.url.path, type(error).__name__)
    say = parts_of(request).pages.words_of(language_of(request))
    problem = Problem(code="internal", cause=say("base.error.internal.cause"), fix=say("base.error.internal.fix"))
    return _problem_page(request, problem, 500)


def _problem_page(request: Request, problem: Problem, status: int) -> Response:
    return parts_of(request).pages.page(request, "problem.html", status, problem=problem)
