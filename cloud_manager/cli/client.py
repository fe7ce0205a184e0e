"""The manager's `/api/v1` as the command line uses it. Answers are plain JSON values, as the manager gave them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote, urlsplit

import httpx
import httpx_sse
from pydantic import ValidationError

from cloud_manager.errors import DeployError
from image_builder.contract import Problem

Json = dict[str, Any]

LOOPBACK = ("127.0.0.1", "localhost", "::1")


class ManagerUnreachable(DeployError):
    """Nothing answers at the manager's address, or what answers is not a manager."""

    code = "manager_unreachable"
    retryable = True


class Manager:
    """Errors: `ManagerUnreachable`; else a `DeployError` with the manager's own words."""

    def __init__(self, url: str, token: str = "", *, patience: float = 30, language: str = "en") -> None:
        """Args:
        token: its API_TOKEN, if it has one.
        patience: seconds for which an answer is waited for.
        language: of what is answered for people, e.g. `ko`.
        """
        self.url = url.rstrip("/")
        direct = urlsplit(self.url).hostname in LOOPBACK  # a proxy set for the internet does not know this machine
        self._http = httpx.Client(
            timeout=httpx.Timeout(patience, connect=min(patience, 5)),
            trust_env=not direct,
            headers={**bearing(token), "Accept-Language": language},
        )

    def __enter__(self) -> Manager:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def start(self, user: str, project: str) -> Json:
        return self._object("POST", f"{_path(user, project)}/start")

    def stop(self, user: str, project: str) -> Json:
        return self._object("POST", f"{_path(user, project)}/stop")

    def rollback(self, user: str, project: str, *, to: str | None = None) -> Json:
        return self._object("POST", f"{_path(user, project)}/rollback", params={"revision": to} if to else None)

    def revisions(self, user: str, project: str) -> list[Json]:
        """Those that ran well, the newest first."""
        return list(self._object("GET", f"{_path(user, project)}/revisions")["items"])

    def deployment(self, user: str, project: str) -> Json:
        return self._object("GET", _path(user, project))

    def deployments(self) -> list[Json]:
        """All of them, page by page."""
        rows: list[Json] = []
        after: str | None = ""
        while after is not None:
            page = self._object("GET", "/deployments", params={"after": after} if after else {})
            rows += page["items"]
            after = page.get("next")
        return rows

    def events(self, user: str, project: str, *, after: int = 0) -> list[Json]:
        """Events with a sequence above `after`, oldest first."""
        page = self._object("GET", f"{_path(user, project)}/events", params={"after": after, "limit": 1000})
        return list(page["items"])

    def follow_events(self, user: str, project: str, *, after: int = 0) -> Iterator[Json]:
        for data in self._stream(f"{_path(user, project)}/events/stream", {"after": after}):
            if data:  # httpx-sse takes a comment and its blank line for an event, once there was one
                yield json.loads(data)

    def logs(self, user: str, project: str, *, tail: int) -> str:
        return self._answer("GET", f"{_path(user, project)}/logs", params={"tail": tail}).text

    def follow_logs(self, user: str, project: str, *, tail: int) -> Iterator[str]:
        return self._stream(f"{_path(user, project)}/logs/stream", {"tail": tail})

    def preflight(self, target: str | None = None) -> Json:
        return self._object("GET", "/preflight", params={"target": target} if target else {})

    def schema(self) -> Json:
        return self._object("GET", "/schema")

    def _object(self, method: str, path: str, *, params: Json | None = None) -> Json:
        answer = self._answer(method, path, params=params or {})
        try:
            value = answer.json()
        except ValueError as error:
            raise _not_a_manager(self.url) from error
        if not isinstance(value, dict):
            raise _not_a_manager(self.url)
        return value

    def _answer(self, method: str, path: str, *, params: Json) -> httpx.Response:
        try:
            answer = self._http.request(method, f"{self.url}/api/v1{path}", params=params)
        except (httpx.TransportError, httpx.InvalidURL) as error:
            raise _unreachable(self.url, error) from error
        if answer.is_error:
            raise _refusal(self.url, answer)
        return answer

    def _stream(self, path: str, params: Json) -> Iterator[str]:
        """The data of each server-sent event, until the stream ends: by the manager, or because it died."""
        endless = httpx.Timeout(30, connect=5, read=None)
        url = f"{self.url}/api/v1{path}"
        connected = False
        try:
            with httpx_sse.connect_sse(self._http, "GET", url, params=params, timeout=endless) as source:
                if source.response.is_error:
                    source.response.read()
                    raise _refusal(self.url, source.response)
                connected = True
                for event in source.iter_sse():
                    if event.event == "problem":
                        raise _told(self.url, event.data)
                    yield event.data
        except (httpx.TransportError, httpx.InvalidURL) as error:
            if not connected:
                raise _unreachable(self.url, error) from error


def bearing(token: str) -> dict[str, str]:
    """The header that a server with an API_TOKEN asks for."""
    return {"Authorization": f"Bearer {token}"} if token else {}


def _path(user: str, project: str) -> str:
    return f"/deployments/{quote(user, safe='')}/{quote(project, safe='')}"


def _unreachable(url: str, error: Exception) -> ManagerUnreachable:
    reason = str(error) or type(error).__name__
    return ManagerUnreachable(
        f"the cloud manager at {url} does not answer: {reason}",
        "Start it with `cloud-deploy up`, or name another with --url or CLOUD_MANAGER_URL.",
    )


def _not_a_manager(url: str) -> ManagerUnreachable:
    return ManagerUnreachable(
        f"what answers at {url} is not a cloud manager",
        "Name the manager with --url or CLOUD_MANAGER_URL, e.g. http://127.0.0.1:8890.",
    )


def _refusal(url: str, answer: httpx.Response) -> DeployError:
    """The manager's own words, or that it has none."""
    try:
        return _told(url, json.dumps(answer.json()["error"]))
    except (ValueError, KeyError, TypeError):
        return _not_a_manager(url)


def _told(url: str, text: str) -> DeployError:
    try:
        return DeployError.of(Problem.model_validate_json(text))
    except ValidationError:
        return _not_a_manager(url)
