"""The log: one line for each thing that happened, with the id of the request that caused it.

An id comes in by `X-Request-ID`, or is made, and is answered by the same header. A build runs under the id of
the request that began it.
"""

from __future__ import annotations

import json
import logging
import re
import sys
import time
from collections.abc import Callable
from contextvars import Context, ContextVar, copy_context
from datetime import UTC, datetime
from typing import Literal
from uuid import uuid4

from starlette.types import ASGIApp, Message, Receive, Scope, Send

log = logging.getLogger(__name__)

LogFormat = Literal["json", "text"]
Observe = Callable[[Scope, int, float], None]
"""Is told of each request: its scope, the status, and the seconds until its answer began."""

HEADER = "X-Request-ID"
REQUEST_ID: ContextVar[str] = ContextVar("request_id", default="")
BUILD: ContextVar[str] = ContextVar("build", default="")
PROJECT: ContextVar[str] = ContextVar("project", default="")
_ABOUT = (REQUEST_ID, PROJECT, BUILD)

_NAME = HEADER.lower().encode()
_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}").fullmatch
"""What somebody else writes into our log is short and plain."""


def log_to_stderr(level: str, form: LogFormat) -> None:
    """level: e.g. `INFO`, for our own lines. Libraries speak from WARNING on: below, some tell headers and data.

    Raises:
        ValueError: no such level.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines() if form == "json" else TextLines())
    own = logging.getLevelNamesMapping().get(level.upper())
    if own is None:
        raise ValueError(f"LOG_LEVEL is {level!r}")
    logging.basicConfig(level=max(own, logging.WARNING), handlers=[handler])
    for name in (__name__.partition(".")[0], "uvicorn"):
        logging.getLogger(name).setLevel(own)


class JsonLines(logging.Formatter):
    """Objects with `time` (UTC), `level`, `logger`, `message`, and, where there are any, what caused the line, what it
    is about, and `exception`."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            **_about(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info and record.exc_info[0]:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False, default=str)


class TextLines(logging.Formatter):
    """For people: a line, and below it the traceback, if there is one."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's own name
        line = "".join(char if char.isprintable() else ascii(char)[1:-1] for char in super().formatMessage(record))
        about = " ".join(f"{name}={value}" for name, value in _about().items())
        return f"{line} [{about}]" if about else line


def _about() -> dict[str, str]:
    return {variable.name: value for variable in _ABOUT if (value := variable.get())}


def about(build: str, project: str) -> Context:
    """For the task of a build: its lines name the build, whom it is for, and the request that began it."""
    context = copy_context()
    context.run(BUILD.set, build)
    context.run(PROJECT.set, project)
    return context


class RequestLog:
    """ASGI middleware, the outermost: gives each request its id, and notes what came of it. A query is not noted."""

    def __init__(self, app: ASGIApp, observe: Observe, timer: Callable[[], float] = time.perf_counter) -> None:
        self._app = app
        self._observe = observe
        self._timer = timer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        # Never taken back: the server runs each request in a task of its own, and logs what fails after this has ended.
        REQUEST_ID.set(_given(scope) or uuid4().hex)
        began, status, seconds = self._timer(), 500, 0.0

        async def send_with_id(message: Message) -> None:
            nonlocal status, seconds
            if message["type"] == "http.response.start":
                status, seconds = message["status"], self._timer() - began
                headers = [*message.get("headers", ()), (_NAME, REQUEST_ID.get().encode())]
                message = {**message, "headers": headers}
            await send(message)

        try:
            await self._app(scope, receive, send_with_id)
        finally:
            self._observe(scope, status, seconds)
            _note(scope, status, seconds)


def _given(scope: Scope) -> str:
    for name, value in scope["headers"]:
        if name == _NAME:
            return value.decode() if _ID(value) else ""
    return ""


def _note(scope: Scope, status: int, seconds: float) -> None:
    """What acts and what fails is news; what only looks is asked for every two seconds."""
    method, path = scope["method"], scope["path"]
    news = status >= 400 or method not in ("GET", "HEAD")
    fields = {"method": method, "path": path, "status": status, "seconds": round(seconds, 6)}
    log.log(logging.INFO if news else logging.DEBUG, "%s %s: %d", method, path, status, extra={"fields": fields})
