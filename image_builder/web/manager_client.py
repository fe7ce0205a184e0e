"""The manager's `/api/v1` as the GUI uses it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator
from contextlib import contextmanager
from typing import Any, NoReturn, TypeVar

import httpx
from httpx_sse import ServerSentEvent, SSEError, aconnect_sse
from pydantic import BaseModel, ValidationError

from image_builder.contract import Problem
from image_builder.request_log import HEADER, REQUEST_ID
from image_builder.web.languages import Language
from image_builder.web.manager_models import (
    Deployment,
    DeploymentPage,
    Event,
    EventPage,
    Meaning,
    ProjectFile,
    Revision,
    RevisionList,
    Targets,
    Verdict,
)
from image_builder.web.problems import ManagerAway, PageProblem

Model = TypeVar("Model", bound=BaseModel)
_TIMEOUT = httpx.Timeout(10.0, connect=3.0)
# The manager sends a comment every 15 s when nothing happens.
_STREAM_TIMEOUT = httpx.Timeout(10.0, connect=3.0, read=60.0)
_PAGE = 100  # rows of the manager at a time: it answers /status_request between two


class ManagerClient:
    """One pool of connections to one manager. What it says about problems is in the language asked for.

    Every call raises ManagerAway if nothing, or no manager, answers, and PageProblem with the manager's own words if
    it says no.
    """

    def __init__(self, url: str, token: str = "") -> None:
        """url: e.g. `http://127.0.0.1:8890`. token: the manager's API_TOKEN, if it has one."""
        self.url = url.rstrip("/")
        self._token = token
        # A neighbour: a proxy meant for the internet (http_proxy) must not come between. Each log followed is a stream.
        limits = httpx.Limits(max_connections=500, max_keepalive_connections=20)
        self._http = httpx.AsyncClient(base_url=f"{self.url}/api/v1", timeout=_TIMEOUT, trust_env=False, limits=limits)

    async def deployments(self, language: Language, after: str = "") -> DeploymentPage:
        parameters = {"limit": str(_PAGE)} | ({"after": after} if after else {})
        return await self._read(DeploymentPage, "/deployments", language, parameters)

    async def deployment(self, language: Language, key: str) -> Deployment:
        """key: `7/42`."""
        return await self._read(Deployment, f"/deployments/{key}", language)

    async def act(self, language: Language, key: str, what: str, **parameters: str) -> Deployment:
        """what: `start`, `stop`, `rollback`. The project as it is then."""
        response = await self._call("POST", f"/deployments/{key}/{what}", language, params=parameters)
        with self._reachable():
            return Deployment.model_validate_json(response.content)

    async def file(self, language: Language, key: str) -> ProjectFile:
        """deployment.yaml as it is now."""
        return await self._read(ProjectFile, f"/deployments/{key}/yaml", language)

    async def judge(self, language: Language, text: str, key: str | None) -> Verdict:
        """key: of the project whose files are judged too."""
        user, _, project = (key or "").partition("/")
        parameters = {"user_id": user, "project_id": project} if key else {}
        response = await self._call("POST", "/validate", language, params=parameters, content=text.encode())
        with self._reachable():
            return Verdict.model_validate_json(response.content)

    async def write(self, language: Language, key: str, text: str) -> None:
        """Put deployment.yaml where `start` reads it."""
        await self._call("PUT", f"/deployments/{key}/yaml", language, content=text.encode())

    async def targets(self, language: Language) -> Targets:
        return await self._read(Targets, "/targets", language)

    async def meaning(self, language: Language, code: str) -> Meaning:
        """What an error's code means in general."""
        return await self._read(Meaning, f"/errors/{code}", language)

    async def revisions(self, language: Language, key: str) -> tuple[Revision, ...]:
        """The newest first."""
        return (await self._read(RevisionList, f"/deployments/{key}/revisions", language)).items

    async def log(self, language: Language, key: str, tail: int) -> AsyncGenerator[str, None]:
        """The last lines of the service's log, then each new one."""
        async for event in self.stream(language, f"/deployments/{key}/logs/stream", tail=str(tail)):
            if event.event == "problem":
                self._raise_problem(event.data)
            for line in event.data.split("\n"):
                yield line

    async def events(self, language: Language, key: str, after: int = 0) -> list[Event]:
        """The history with sequence > after, as far as it is kept, oldest first."""
        found: list[Event] = []
        while True:
            parameters = {"after": str(after), "limit": "1000"}
            page = await self._read(EventPage, f"/deployments/{key}/events", language, parameters)
            found += page.items
            if page.next is None:
                return found
            after = page.next

    async def changes(self, language: Language) -> AsyncGenerator[Deployment | None, None]:
        """None as soon as nothing more is missed, then every project that changes."""
        async for event in self.stream(language, "/changes/stream"):
            if event.event == "ready":
                yield None
            elif event.event == "changed":
                with self._reachable():
                    yield Deployment.model_validate_json(event.data)
            elif event.event == "problem":
                self._raise_problem(event.data)

    async def stream(self, language: Language, path: str, **parameters: str) -> AsyncGenerator[ServerSentEvent, None]:
        """Server-sent events of a path below /api/v1, until the manager ends them."""
        headers = self._headers(language)
        with self._reachable():
            async with aconnect_sse(
                self._http, "GET", path, params=parameters, headers=headers, timeout=_STREAM_TIMEOUT
            ) as source:
                if source.response.is_error:
                    await source.response.aread()
                    self._raise_for(source.response)
                async for event in source.aiter_sse():
                    if event.data:
                        yield event

    async def aclose(self) -> None:
        await self._http.aclose()

    def _headers(self, language: Language) -> dict[str, str]:
        """The one place where it is decided what the manager is told with every call."""
        told: dict[str, str] = {"Accept-Language": language}
        if self._token:
            told["Authorization"] = f"Bearer {self._token}"
        if request_id := REQUEST_ID.get():
            told[HEADER] = request_id
        return told

    async def _read(
        self, model: type[Model], path: str, language: Language, parameters: dict[str, str] | None = None
    ) -> Model:
        response = await self._call("GET", path, language, params=parameters)
        with self._reachable():
            return model.model_validate_json(response.content)

    async def _call(self, method: str, path: str, language: Language, **options: Any) -> httpx.Response:
        with self._reachable():
            response = await self._http.request(method, path, headers=self._headers(language), **options)
        if response.is_error:
            self._raise_for(response)
        return response

    def _raise_problem(self, data: str) -> NoReturn:
        with self._reachable():
            raise PageProblem(Problem.model_validate_json(data), 503)

    @contextmanager
    def _reachable(self) -> Iterator[None]:
        try:
            yield
        except (SSEError, httpx.DecodingError, ValidationError) as error:
            raise self._stranger(str(error)) from error
        except httpx.TransportError as error:
            raise ManagerAway(
                f"the manager at {self.url} does not answer ({str(error) or type(error).__name__})",
                "Check that cloud_manager runs and that CLOUD_MANAGER_URL names it; the page goes on when it is back",
            ) from error

    def _stranger(self, reason: str) -> ManagerAway:
        return ManagerAway(
            f"what answers at {self.url} does not speak as a manager ({' '.join(reason.split())[:200]})",
            "Check that CLOUD_MANAGER_URL names the manager and that both have the same version",
        )

    def _raise_for(self, response: httpx.Response) -> None:
        try:
            problem = Problem.model_validate(response.json()["error"])
        except (ValueError, LookupError, TypeError) as error:  # not the manager's shape: a proxy's page
            raise self._stranger(f"HTTP {response.status_code}") from error
        raise PageProblem(problem, response.status_code)
