"""TANGO's four GETs: single plain words for the project manager, `text/plain`.

It reads the body as the status and takes any body over 50 characters for an error; so errors are always longer.
Its `Content-Type` on a GET, and a body should one come, mean nothing and are ignored.
"""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import parse_qsl

from fastapi import APIRouter, Depends, Request
from fastapi.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cloud_manager.board import Board
from cloud_manager.deployment import Key, Phase
from cloud_manager.errors import BadRequest, NotFound
from cloud_manager.names import check_id
from cloud_manager.request_log import PROJECT
from cloud_manager.routes.guard import meant
from cloud_manager.routes.parts import Parts
from image_builder.contract import Problem

PATHS = frozenset({"/", "/start", "/stop", "/status_request"})
_STATUS_LENGTH = 50
_NO_STORE = {"Cache-Control": "no-store"}
_MORE = " (Cloud Deploy; its log and /docs say more)"

_PARAMETERS: dict[str, Any] = {
    "parameters": [
        {
            "name": name,
            "in": "query",
            "required": True,
            "description": "1-64 of letters, digits, `.`, `_`, `-`, not starting with a dot.",
            "schema": {"type": "string", "maxLength": 64},
            "example": example,
        }
        for name, example in (("user_id", "7"), ("project_id", "42"))
    ]
}


_Answers = dict[int | str, dict[str, Any]]


def _text(description: str, example: str) -> dict[str, Any]:
    return {
        "description": description,
        "content": {"text/plain": {"schema": {"type": "string"}, "example": example}},
    }


_BAD_IDS: _Answers = {
    400: _text("An id is missing, empty, repeated, or not an id.", "error: the query parameter user_id …")
}
_UNKNOWN: _Answers = {404: _text("No such project.", "error: project 7/42 was never started. …")}
_ACTING: _Answers = {
    **_BAD_IDS,
    **_UNKNOWN,
    403: _text("A foreign page or a prefetch made the call.", "error: a page of another origin …"),
    503: _text("Something that is needed does not answer now.", "error: the database …"),
}
_INVALID: _Answers = {
    422: _text("deployment.yaml is not right: every finding, in one line.", "error: deployment.yaml:9:13 …")
}

_OTHER: _Answers = {
    401: _text("API_TOKEN and TANGO_GETS_NEED_TOKEN are set, it was not sent.", "error: this call needs a token. …"),
    "default": _text("Any other error.", "error: …"),
}

router = APIRouter(tags=["TANGO"], default_response_class=PlainTextResponse, responses=_OTHER)


def answer(text: str, status: int = 200) -> PlainTextResponse:
    return PlainTextResponse(text, status, headers=_NO_STORE)


@router.get("/", summary="Is the manager there?", responses={200: _text("Empty.", "")})
async def root() -> PlainTextResponse:
    return answer("")


@router.get(
    "/start",
    summary="Make the project run as its deployment.yaml says",
    dependencies=[Depends(meant)],
    openapi_extra=_PARAMETERS,
    responses={200: _text("Noted; the work goes on by itself.", "started"), **_ACTING, **_INVALID},
)
async def start(request: Request, parts: Parts) -> PlainTextResponse:
    await parts.deployments.start(project_of(request.scope["query_string"]))
    return answer("started")


@router.get(
    "/stop",
    summary="Stop the project and remove what runs of it",
    dependencies=[Depends(meant)],
    openapi_extra=_PARAMETERS,
    responses={200: _text("Noted; the work goes on by itself.", "finished"), **_ACTING},
)
async def stop(request: Request, parts: Parts) -> PlainTextResponse:
    await parts.deployments.stop(project_of(request.scope["query_string"]))
    return answer("finished")


@router.get(
    "/status_request",
    summary="One word: how far the project is",
    description=f"From memory. One of {', '.join(f'`{phase}`' for phase in Phase)}.",
    openapi_extra=_PARAMETERS,
    responses={200: _text("The word.", "running"), **_BAD_IDS, **_UNKNOWN},
)
async def status_request(request: Request, parts: Parts) -> PlainTextResponse:
    """What `StatusWords` has not answered: unusual spellings of the query, and what is wrong."""
    key = project_of(request.scope["query_string"])
    word = parts.board.word(key.user_id, key.project_id)
    if word is None:
        raise NotFound(
            f"project {key} was never started",
            f"Call /start?user_id={key.user_id}&project_id={key.project_id} first",
        )
    return answer(word.decode())


def project_of(query: bytes) -> Key:
    """The project that a query string names, percent-decoded.

    Raises:
        BadRequest: an id is missing, empty, repeated, or not an id.
    """
    try:
        pairs = parse_qsl(query.decode("latin-1"), keep_blank_values=True, max_num_fields=100)
    except ValueError as error:
        raise BadRequest("the query has too many parameters", "Send user_id and project_id") from error
    key = Key(_single("user_id", pairs), _single("project_id", pairs))
    PROJECT.set(str(key))
    return key


def _single(name: str, pairs: list[tuple[str, str]]) -> str:
    values = [value for key, value in pairs if key == name]
    fix = "Call it as e.g. /start?user_id=7&project_id=42"
    if not values:
        raise BadRequest(f"the query parameter {name} is missing", fix)
    if len(values) > 1:
        raise BadRequest(f"the query parameter {name} is given {len(values)} times", fix)
    if not values[0]:
        raise BadRequest(f"the query parameter {name} is empty", fix)
    return check_id(values[0], name)


def error_line(problem: Problem) -> str:
    """`error: <cause>. <fix>` in one printable line, longer than a status can be, also without its quotes."""
    parts = (" ".join(part.split()) for part in str(problem).splitlines())
    line = "error: " + "; ".join(part for part in parts if part)
    line = "".join(char if char.isprintable() else "?" for char in line)
    return line if len(line.replace('"', "")) > _STATUS_LENGTH else line + _MORE


class StatusWords:
    """In front of the application: answers `/status_request` as the project manager writes it.

    Every project is asked for every two seconds. What it does not know at once goes the ordinary way.
    """

    _ordinary = re.compile(rb"user_id=([A-Za-z0-9._-]+)&project_id=([A-Za-z0-9._-]+)").fullmatch

    def __init__(self, app: ASGIApp, board: Board) -> None:
        self._app = app
        self._board = board
        self.answered = 0
        """How many it has answered: counted here, for a counter with labels would cost as much as the answer."""
        self._answers = {phase.value.encode(): _messages(phase.value.encode()) for phase in Phase}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] == "/status_request" and scope["method"] == "GET":
            ids = self._ordinary(scope["query_string"])
            word = self._board.word(ids[1].decode(), ids[2].decode()) if ids else None
            if word is not None:
                head, body = self._answers[word]
                await send(head)
                await send(body)
                self.answered += 1
                return
        await self._app(scope, receive, send)


def _messages(word: bytes) -> tuple[Message, Message]:
    headers = [
        (b"content-type", b"text/plain; charset=utf-8"),
        (b"content-length", str(len(word)).encode()),
        (b"cache-control", b"no-store"),
    ]
    head: Message = {"type": "http.response.start", "status": 200, "headers": headers}
    return head, {"type": "http.response.body", "body": word}
