"""A small real HTTP server that answers as the manager's `/api/v1` does, from values that a test sets."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

Json = dict[str, Any]


def row(phase: str = "running", **changes: Any) -> Json:
    """A deployment as the API shows it."""
    return {
        "user_id": "7",
        "project_id": "42",
        "phase": phase,
        "want": "present",
        "generation": 1,
        "target": "local",
        "url": "http://127.0.0.1:41231" if phase == "running" else None,
        "image": None,
        "image_uri": None,
        "revision": None,
        "problem": None,
        "detail": "",
        "created": 1767225600.0,
        "updated": 1767225609.5,
        "build": None,
        **changes,
    }


def event(sequence: int, message: str, kind: str = "phase", problem: Json | None = None) -> Json:
    return {
        "sequence": sequence,
        "time": 1767225600.0 + sequence,
        "generation": 1,
        "kind": kind,
        "message": message,
        "problem": problem,
    }


PROBLEM = {"code": "port_in_use", "cause": "port 8080 is in use", "fix": "Choose another port.", "retryable": False}


class CannedManager:
    """`rows` are answered one after the other, the last for ever; 404 when there is none."""

    def __init__(self) -> None:
        self.rows: list[Json] = []
        self.pages: list[Json] = []
        self.history: list[Json] = []
        self.good: list[Json] = []
        self.log = ""
        self.calls: list[str] = []
        self.url = ""

    def app(self) -> Starlette:
        base = "/api/v1/deployments"
        one = f"{base}/{{user}}/{{project}}"
        return Starlette(
            routes=[
                Route(base, self._page),
                Route(one, self._row),
                Route(f"{one}/start", self._row, methods=["POST"]),
                Route(f"{one}/stop", self._row, methods=["POST"]),
                Route(f"{one}/rollback", self._row, methods=["POST"]),
                Route(f"{one}/revisions", self._revisions),
                Route(f"{one}/events", self._events),
                Route(f"{one}/events/stream", self._event_stream),
                Route(f"{one}/logs", self._logs),
                Route(f"{one}/logs/stream", self._log_stream),
            ]
        )

    async def _page(self, request: Request) -> Response:
        return JSONResponse(self.pages[1 if request.query_params.get("after") else 0])

    async def _row(self, request: Request) -> Response:
        self.calls.append(f"{request.method} {request.url.path}{f'?{request.url.query}' if request.url.query else ''}")
        if not self.rows:
            problem = {"code": "not_found", "cause": "project 7/42 was never started", "fix": "Start it."}
            return JSONResponse({"error": problem}, status_code=404)
        return JSONResponse(self.rows.pop(0) if len(self.rows) > 1 else self.rows[0])

    async def _revisions(self, request: Request) -> Response:
        return JSONResponse({"items": self.good})

    async def _events(self, request: Request) -> Response:
        after = int(request.query_params["after"])
        items = [each for each in self.history if each["sequence"] > after]
        return JSONResponse({"items": items, "next": None})

    async def _event_stream(self, request: Request) -> Response:
        after = int(request.query_params["after"])
        late = [event(after + 1, "came later"), event(after + 2, "came last")]
        body = "".join(f"id: {each['sequence']}\ndata: {json.dumps(each)}\n\n: keep-alive\n\n" for each in late)
        problem = {**PROBLEM, "cause": "the database does not answer"}
        return _stream(f": keep-alive\n\n{body}event: problem\ndata: {json.dumps(problem)}\n\n")

    async def _logs(self, request: Request) -> Response:
        lines = self.log.splitlines(keepends=True)[-int(request.query_params["tail"]) :]
        return PlainTextResponse("".join(lines))

    async def _log_stream(self, request: Request) -> Response:
        return _stream("".join(f"data: {line}\n\n" for line in self.log.splitlines()))


def _stream(text: str) -> Response:
    return Response(text, media_type="text/event-stream")


@contextlib.contextmanager
def serving(canned: CannedManager) -> Iterator[CannedManager]:
    with serving_app(canned.app()) as canned.url:
        yield canned


@contextlib.contextmanager
def serving_app(app: Starlette) -> Iterator[str]:
    """Its URL."""
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error", ws="none"))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        tick = threading.Event()
        while not server.started:
            assert thread.is_alive(), "the canned manager did not start"
            tick.wait(0.01)
        port = server.servers[0].sockets[0].getsockname()[1]
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join()
