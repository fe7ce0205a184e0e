"""The image builder's HTTP API as the command line uses it. Answers are plain JSON values, as the builder gave them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import httpx_sse
from pydantic import ValidationError

from cloud_manager.cli.client import LOOPBACK, bearing
from cloud_manager.errors import DeployError
from image_builder.contract import Problem

_PATIENCE = httpx.Timeout(300, connect=5)
"""Seconds; the builder reads a whole project before it answers POST /builds."""


class BuilderUnreachable(DeployError):
    """Nothing answers at the builder's address, or what answers is not a builder."""

    code = "builder_unreachable"
    retryable = True


class Builder:
    """Errors: `BuilderUnreachable` (exit status 3); else a `DeployError` with the builder's own words (1)."""

    def __init__(self, url: str, token: str = "", *, language: str = "en") -> None:
        """token: its API_TOKEN, if it has one. language: of what is answered for people, e.g. `ko`."""
        self.url = url.rstrip("/")
        direct = urlsplit(self.url).hostname in LOOPBACK  # a proxy set for the internet does not know this machine
        headers = {**bearing(token), "Accept-Language": language}
        self._http = httpx.Client(timeout=_PATIENCE, trust_env=not direct, headers=headers)

    def __enter__(self) -> Builder:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def get(self, path: str, **params: Any) -> Any:
        """The JSON at a path, e.g. `/builds`."""
        return self._json(self._answer("GET", path, params=params))

    def get_text(self, path: str, **params: Any) -> str:
        return self._answer("GET", path, params=params).text

    def download(self, path: str, file: Path, **params: Any) -> None:
        """Write what a path answers into a file, piece by piece. OSError: the file cannot be written."""
        try:
            with self._http.stream("GET", self.url + path, params=params) as answer:
                if answer.is_error:
                    answer.read()
                    raise _refusal(self.url, answer)
                with file.open("wb") as out:
                    for chunk in answer.iter_bytes(1 << 20):
                        out.write(chunk)
        except (httpx.TransportError, httpx.InvalidURL) as error:
            raise _unreachable(self.url, error) from error

    def post(self, path: str, body: Any = None, **params: Any) -> Any:
        return self._json(self._answer("POST", path, params=params, json=body))

    def delete(self, path: str, **params: Any) -> Any:
        return self._json(self._answer("DELETE", path, params=params))

    def stream(self, path: str, **params: Any) -> Iterator[Any]:
        """The JSON of each server-sent event, until the stream ends: by the builder, or because it died."""
        endless = httpx.Timeout(30, connect=5, read=None)
        connected = False
        try:
            with httpx_sse.connect_sse(self._http, "GET", self.url + path, params=params, timeout=endless) as source:
                if source.response.is_error:
                    source.response.read()
                    raise _refusal(self.url, source.response)
                connected = True
                for event in source.iter_sse():
                    if event.data:  # httpx-sse takes a comment and its blank line for an event, once there was one
                        yield json.loads(event.data)
        except (httpx.TransportError, httpx.InvalidURL) as error:
            if not connected:
                raise _unreachable(self.url, error) from error

    def _answer(self, method: str, path: str, **more: Any) -> httpx.Response:
        try:
            answer = self._http.request(method, self.url + path, **more)
        except (httpx.TransportError, httpx.InvalidURL) as error:
            raise _unreachable(self.url, error) from error
        if answer.is_error:
            raise _refusal(self.url, answer)
        return answer

    def _json(self, answer: httpx.Response) -> Any:
        try:
            return answer.json()
        except ValueError as error:
            raise _not_a_builder(self.url) from error


def _unreachable(url: str, error: Exception) -> BuilderUnreachable:
    reason = str(error) or type(error).__name__
    return BuilderUnreachable(
        f"the image builder at {url} does not answer: {reason}",
        "Start it with `cloud-deploy up`, or name another with --builder or IMAGE_BUILDER_URL.",
    )


def _not_a_builder(url: str) -> BuilderUnreachable:
    return BuilderUnreachable(
        f"what answers at {url} is not an image builder",
        "Name the builder with --builder or IMAGE_BUILDER_URL, e.g. http://127.0.0.1:7007.",
    )


def _refusal(url: str, answer: httpx.Response) -> DeployError:
    """The builder's own words, or that it has none."""
    try:
        return DeployError.of(Problem.model_validate(answer.json()["error"]))
    except (ValueError, KeyError, TypeError, ValidationError):
        return _not_a_builder(url)
