"""ASGI middleware: the answers of a service in the language of the caller.

Everything within is English. Of an answer in JSON, or of server-sent events of JSON, the sentences for people are
translated on their way out; what names a thing, and the log of a program, stays as it is.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from pydantic import ValidationError
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from image_builder.contract import Problem
from image_builder.problem_words.catalogue import Words
from image_builder.problem_words.language import ENGLISH, preferred

Speak = Callable[[str], Words]
"""The words of a language."""

_LARGEST = 16 << 20
"""Bytes of an answer that is translated; a larger one goes out as it is."""

_UNTOLD = frozenset({"/openapi.json"})
_PROGRAM_OUTPUT = "log"


def language_of(headers: Headers) -> str:
    return preferred(",".join(headers.getlist("accept-language")))


class SpokenAnswers:
    """Also tells the language (`Content-Language`), and that another may be had (`Vary`)."""

    def __init__(self, app: ASGIApp, *, speak: Speak) -> None:
        self._app = app
        self._speak = speak

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        language = language_of(Headers(scope=scope))
        translated = language != ENGLISH and scope["path"] not in _UNTOLD
        answer = _Answer(send, language, self._speak(language) if translated else None)
        await self._app(scope, receive, answer.send)


class _Answer:
    """One answer on its way out. words: None, to let it pass."""

    def __init__(self, send: Send, language: str, words: Words | None) -> None:
        self._out = send
        self._language = language
        self._words = words
        self._start: Message | None = None
        self._held = bytearray()
        self._kind = ""

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            await self._begin(message)
        elif message["type"] == "http.response.body" and self._words is not None:
            await self._body(message, self._words)
        else:
            await self._out(message)

    async def _begin(self, message: Message) -> None:
        headers = MutableHeaders(scope=message)
        headers.setdefault("Content-Language", self._language)
        headers.add_vary_header("Accept-Language")
        self._kind = headers.get("content-type", "").partition(";")[0]
        if self._words is not None and self._kind == "application/json":
            self._start = message  # its length is known with the body
        else:
            await self._out(message)

    async def _body(self, message: Message, words: Words) -> None:
        body = message.get("body", b"")
        if self._kind == "text/event-stream":
            await self._out({**message, "body": _events(body, words)})
        elif self._start is None:
            await self._out(message)
        else:
            self._held += body
            if not message.get("more_body", False):
                await self._pass(_json(bytes(self._held), words), more=False)
            elif len(self._held) > _LARGEST:
                await self._pass(bytes(self._held), more=True)

    async def _pass(self, body: bytes, *, more: bool) -> None:
        start, self._start = self._start, None
        if start is not None:
            headers = MutableHeaders(scope=start)
            if "content-length" in headers and not more:
                headers["content-length"] = str(len(body))
            await self._out(start)
        await self._out({"type": "http.response.body", "body": body, "more_body": more})


def _json(body: bytes, words: Words) -> bytes:
    try:
        value = json.loads(body)
    except ValueError:
        return body  # an empty answer to HEAD, or none of ours
    return json.dumps(translated(value, words), ensure_ascii=False, separators=(",", ":")).encode()


def _events(chunk: bytes, words: Words) -> bytes:
    """Our streams send whole events at a time; a line of a program's log is no JSON object, and stays."""
    if b"data: {" not in chunk:
        return chunk
    lines = chunk.split(b"\n")
    told = [b"data: " + _json(line[6:], words) if line.startswith(b"data: {") else line for line in lines]
    return b"\n".join(told)


def translated(value: Any, words: Words) -> Any:
    """A JSON value with the sentences of its problems, findings, events and notes in another language."""
    if isinstance(value, list):
        return [translated(each, words) for each in value]
    if not isinstance(value, dict):
        return value
    rows = {key: translated(each, words) for key, each in value.items()}
    if isinstance(value.get("cause"), str) and isinstance(value.get("fix"), str):
        return {**rows, **_problem(value, words)}
    for key in _sentences(value):
        rows[key] = words.text(value[key])
    if isinstance(value.get("notes"), list):
        rows["notes"] = [words.text(note) if isinstance(note, str) else note for note in value["notes"]]
    return rows


def _problem(value: dict[str, Any], words: Words) -> dict[str, str]:
    """Also of what has a cause and a fix and is no problem: the answers of a preflight."""
    try:
        told = words.problem(Problem(code=value["code"], cause=value["cause"], fix=value["fix"]))
    except (KeyError, ValidationError):
        return {"cause": words.text(value["cause"]), "fix": words.text(value["fix"])}
    return {"cause": told.cause, "fix": told.fix}


def _sentences(value: dict[str, Any]) -> list[str]:
    """The keys whose values are for people: of an event, of a finding, of a deployment."""
    keys = []
    if isinstance(value.get("message"), str) and value.get("kind", "line" in value) not in (False, _PROGRAM_OUTPUT):
        keys.append("message")
    if isinstance(value.get("detail"), str) and "phase" in value:
        keys.append("detail")
    return keys
