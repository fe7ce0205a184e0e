"""The web application: routes, errors as answers, and the life of the queue."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi_offline import FastAPIOffline
from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.types import ASGIApp

from image_builder import image_routes, metrics_routes, registry_routes, routes
from image_builder.access import Access
from image_builder.build_queue import BuildQueue
from image_builder.cache_keeper import CacheKeeper
from image_builder.cache_routes import router as cache_router
from image_builder.contract import Problem
from image_builder.edge.body_limit import BodyLimit
from image_builder.edge.pages import OwnHostOnly
from image_builder.errors import BuildError, one_line
from image_builder.metrics import Metrics
from image_builder.oci.layout import Layout
from image_builder.problem_words.answers import SpokenAnswers
from image_builder.problem_words.pages import pages
from image_builder.problem_words.speech import speak
from image_builder.request_log import RequestLog

_LARGEST_BODY = 1 << 20
_BODY_SECONDS = 30.0
_OPEN = frozenset({"/healthz"})
_AGAIN_AFTER = "5"  # seconds; what is asked of a client that came at a bad time


def create_app(
    queue: BuildQueue, layout: Layout, keeper: CacheKeeper, *, metrics: Metrics | None = None, token: str = ""
) -> FastAPI:
    """The queue lives as long as the application: builds go on at its start, and are left to go on at its end.

    It is served through `face`. token: what everything but /healthz asks for; empty: nothing does.
    """

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        await queue.start()
        keeping = asyncio.create_task(keeper.run(), name="cache keeper")
        yield
        keeping.cancel()
        await asyncio.wait([keeping])
        await queue.close()

    app = FastAPIOffline(
        title="Cloud Deploy image builder",
        version="1",
        lifespan=lifespan,
        swagger_ui_parameters={"validatorUrl": None},  # a badge from another host
    )
    app.state.queue = queue
    app.state.layout = layout
    app.state.keeper = keeper
    app.state.metrics = metrics or Metrics()
    app.state.metrics.show(queue, keeper)
    app.include_router(routes.router)
    app.include_router(image_routes.router)
    app.include_router(registry_routes.router)
    app.include_router(cache_router)
    app.include_router(metrics_routes.router)
    app.include_router(pages(speak))
    app.add_exception_handler(registry_routes.RegistryError, registry_routes.answer_registry_error)
    for kind in (BuildError, RequestValidationError, StarletteHTTPException, Exception):
        app.add_exception_handler(kind, _answer_error)
    app.add_middleware(BodyLimit, largest=_LARGEST_BODY, patience=_BODY_SECONDS)
    if token:
        app.add_middleware(Access, token=token, is_open=lambda scope: scope["path"] in _OPEN, refuse=_refuse)
    app.add_middleware(OwnHostOnly)
    return app


def face(app: FastAPI) -> ASGIApp:
    """The application as it is served: in the caller's language, logged and counted."""
    return RequestLog(SpokenAnswers(app, speak=speak), app.state.metrics.request)


def _refuse(request: Request, error: BuildError) -> JSONResponse:
    if not request.url.path.startswith("/v2/"):
        return _answer(request, error)
    return registry_routes.registry_answer(registry_routes.RegistryError("UNAUTHORIZED", str(error), error.http_status))


async def _answer_error(request: Request, error: Exception) -> JSONResponse:
    return _answer(request, error)


def _answer(request: Request, error: Exception) -> JSONResponse:
    """The one place where errors become answers. What is unknown is logged whole by the server, and told to nobody."""
    status, problem, headers = 500, _problem("internal", "internal", "Look into the builder's log."), {}
    if isinstance(error, BuildError):
        status, problem = error.http_status, error.problem
    elif isinstance(error, RequestValidationError):
        status, problem = 422, _invalid(error)
    elif isinstance(error, StarletteHTTPException):
        status, headers = error.status_code, dict(error.headers or {})
        code = HTTPStatus(status).name.lower()
        cause = f"{request.method} {request.url.path}: {error.detail}"
        problem = _problem(code, cause, "See /docs for what can be asked.")
    if request.url.path.startswith("/v2/") and isinstance(error, StarletteHTTPException):
        answer = registry_routes.registry_answer(registry_routes.RegistryError("UNSUPPORTED", problem.cause, status))
        answer.headers.update(headers)
        return answer
    if problem.retryable:
        headers["Retry-After"] = _AGAIN_AFTER
    return JSONResponse(routes.ErrorAnswer(error=problem).model_dump(), status_code=status, headers=headers)


def _invalid(error: RequestValidationError) -> Problem:
    findings = [f"{'.'.join(map(str, found['loc']))}: {found['msg']}" for found in error.errors()]
    cause = "; ".join(findings).replace("\n", " ")
    return _problem("invalid_request", cause[:1000], "Correct what is named; see /docs for what is expected.")


def _problem(code: str, cause: str, fix: str) -> Problem:
    return Problem(code=code, cause=one_line(cause), fix=fix)
