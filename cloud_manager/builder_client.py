"""The image builder over HTTP: `builder.Builder`, spoken with httpx."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Sequence
from contextlib import aclosing, contextmanager
from typing import Any, TypeVar

import httpx
from httpx_sse import SSEError, aconnect_sse
from pydantic import BaseModel, ValidationError

from cloud_manager.errors import BuilderUnavailable, DeployError
from cloud_manager.request_log import HEADER, REQUEST_ID
from image_builder.contract import BuildEvent, BuildRequest, BuildStatus, ImageReference, PinRequest, Problem

_TIMEOUT = httpx.Timeout(10.0, connect=3.0)
# A build may be silent for long (one large wheel). A dead builder closes the connection; a lost network shows here.
_STREAM_TIMEOUT = httpx.Timeout(10.0, connect=3.0, read=90.0)
# The builder reads and hashes the program before it answers: new weights of many gigabytes take a while.
_SUBMIT_TIMEOUT = httpx.Timeout(300.0, connect=3.0)
# Leaving a build returns when what ran is dead, which may take a moment.
_RELEASE_TIMEOUT = httpx.Timeout(30.0, connect=3.0)

Model = TypeVar("Model", bound=BaseModel)


class BuilderClient:
    """One connection pool to one builder. Errors are those of `builder.Builder`."""

    def __init__(self, url: str, token: str = "") -> None:
        """url: e.g. `http://127.0.0.1:7007`. token: the builder's API_TOKEN, if it has one."""
        self.url = url.rstrip("/")
        # The builder is a neighbour: a proxy meant for the internet (http_proxy) must not come between.
        self._http = httpx.AsyncClient(
            base_url=self.url,
            timeout=_TIMEOUT,
            trust_env=False,
            headers={"Authorization": f"Bearer {token}"} if token else {},
            event_hooks={"request": [_named]},
        )

    async def submit(self, request: BuildRequest) -> BuildStatus:
        response = await self._call("POST", "/builds", json=request.model_dump(mode="json"), timeout=_SUBMIT_TIMEOUT)
        return self._read(BuildStatus, response)

    async def status(self, build_id: str) -> BuildStatus | None:
        response = await self._call("GET", f"/builds/{build_id}", absent_is_fine=True)
        return None if response.status_code == 404 else self._read(BuildStatus, response)

    async def release(self, build_id: str, owner: str) -> None:
        await self._call(
            "DELETE", f"/builds/{build_id}", absent_is_fine=True, params={"owner": owner}, timeout=_RELEASE_TIMEOUT
        )

    async def keep(self, owner: str, digests: Sequence[str]) -> None:
        pins = PinRequest(owner=owner, digests=tuple(digests))
        await self._call("PUT", "/pins", json=pins.model_dump(mode="json"))

    async def events(self, build_id: str, *, after: int = 0) -> AsyncIterator[BuildEvent]:
        """A stream that breaks before the build is done raises `BuilderUnavailable`: ask again with `after`."""
        path = f"/builds/{build_id}/events"
        with self._reachable():
            async with aconnect_sse(
                self._http, "GET", path, params={"after": after}, timeout=_STREAM_TIMEOUT
            ) as source:
                if source.response.is_error:
                    await source.response.aread()
                    self._raise_for(source.response)
                async for message in source.aiter_sse():
                    if not message.data:
                        continue  # httpx-sse takes a comment and its blank line for an event.
                    event = self._parse(BuildEvent, message.data)
                    yield event
                    if event.kind == "done":
                        return
        await self._check_done(build_id)

    async def _check_done(self, build_id: str) -> None:
        """A builder that goes down ends its streams: that is not the end of the build."""
        status = await self.status(build_id)
        if status and not status.state.done:
            raise BuilderUnavailable(
                f"the image builder at {self.url} ended the events of build {build_id} before it was done",
                "It is starting anew; the work goes on when it is back",
            )

    async def blob(self, image: ImageReference, digest: str) -> AsyncIterator[bytes]:
        """A connection that breaks on the way is taken up once where it broke.

        Raises:
            BuilderUnavailable: it broke again, or what came is not what `digest` says (code `digest_mismatch`).
        """
        kind = "manifests" if digest == image.digest else "blobs"
        path = f"/v2/{image.repository}/{kind}/{digest}"
        seen = hashlib.sha256()
        received = 0
        for last_try in (False, True):
            try:
                async with aclosing(self._bytes(path, start=received)) as chunks:
                    async for chunk in chunks:
                        seen.update(chunk)
                        received += len(chunk)
                        yield chunk
                break
            except httpx.TransportError as error:
                if last_try:
                    raise self._unreachable(error) from error
        if f"sha256:{seen.hexdigest()}" != digest:
            raise BuilderUnavailable(
                f"what the image builder at {self.url} sent as {digest} has other bytes",
                "It is asked again; if this repeats, delete the builder's STATE_DIR/builder and build anew",
                code="digest_mismatch",
            )

    async def aclose(self) -> None:
        await self._http.aclose()

    async def _bytes(self, path: str, *, start: int) -> AsyncGenerator[bytes, None]:
        """The bytes from `start` on, also from a server that ignores Range. Raises httpx.TransportError."""
        headers = {"Accept": "*/*", "Accept-Encoding": "identity"}
        if start:
            headers["Range"] = f"bytes={start}-"
        async with self._http.stream("GET", path, headers=headers, timeout=_STREAM_TIMEOUT) as response:
            if start and response.status_code == httpx.codes.REQUESTED_RANGE_NOT_SATISFIABLE:
                return  # All had come before the connection broke; the digest decides.
            if response.is_error:
                await response.aread()
                self._raise_for(response)
            skip = 0 if response.status_code == httpx.codes.PARTIAL_CONTENT else start
            async for chunk in response.aiter_raw(1 << 18):
                fresh = chunk[skip:]
                skip -= len(chunk) - len(fresh)
                if fresh:
                    yield fresh

    async def _call(self, method: str, path: str, *, absent_is_fine: bool = False, **options: Any) -> httpx.Response:
        with self._reachable():
            response = await self._http.request(method, path, **options)
        if response.is_error and not (absent_is_fine and response.status_code == 404):
            self._raise_for(response)
        return response

    @contextmanager
    def _reachable(self) -> Iterator[None]:
        try:
            yield
        except (SSEError, httpx.DecodingError) as error:
            raise self._stranger(str(error)) from error
        except httpx.TransportError as error:
            raise self._unreachable(error) from error

    def _unreachable(self, error: httpx.TransportError) -> BuilderUnavailable:
        reason = str(error) or type(error).__name__
        return BuilderUnavailable(
            f"the image builder at {self.url} does not answer ({reason})",
            "Check that image_builder runs and that IMAGE_BUILDER_URL names it; the work goes on when it is back",
        )

    def _stranger(self, reason: str) -> BuilderUnavailable:
        return BuilderUnavailable(
            f"what answers at {self.url} does not speak as an image builder ({' '.join(reason.split())[:200]})",
            "Check that IMAGE_BUILDER_URL names the image builder and that both have the same version",
        )

    def _raise_for(self, response: httpx.Response) -> None:
        """4xx: the builder's own words. 5xx: it is not able to answer now."""
        problem = self._problem(response)
        if response.status_code == httpx.codes.UNAUTHORIZED:
            raise BuilderUnavailable(
                f"the image builder at {self.url} does not take this manager's API_TOKEN",
                "Give both the same API_TOKEN; the work goes on when they have it",
                code="builder_denied",
            )
        if response.status_code >= 500:
            words = problem.cause if problem else f"HTTP {response.status_code}"
            raise BuilderUnavailable(
                f"the image builder at {self.url} cannot answer now ({words})",
                problem.fix if problem else "Look into the log of image_builder; the work goes on when it answers",
                code=problem.code if problem else None,
            )
        if problem is None:
            raise self._stranger(f"HTTP {response.status_code}")
        if response.status_code == httpx.codes.TOO_MANY_REQUESTS:
            problem = problem.model_copy(update={"retryable": True})
        raise DeployError.of(problem)

    @staticmethod
    def _problem(response: httpx.Response) -> Problem | None:
        try:
            answer = response.json()
            if "errors" in answer:
                return _registry_problem(answer["errors"][0])
            return Problem.model_validate(answer["error"])
        except (ValueError, LookupError, TypeError):  # Not our error shape: a proxy's page, another program.
            return None

    def _read(self, model: type[Model], response: httpx.Response) -> Model:
        return self._parse(model, response.content)

    def _parse(self, model: type[Model], data: str | bytes) -> Model:
        try:
            return model.model_validate_json(data)
        except ValidationError as error:
            raise self._stranger(str(error)) from error


async def _named(request: httpx.Request) -> None:
    """With the id of what caused it, so that the builder's lines of a build lead back to a /start."""
    if request_id := REQUEST_ID.get():
        request.headers[HEADER] = request_id


def _registry_problem(error: dict[str, str]) -> Problem:
    """https://github.com/opencontainers/distribution-spec/blob/main/spec.md#error-codes"""
    return Problem(
        code=error["code"].lower(),
        cause=f"the image builder does not have the image any more ({error['message']})",
        fix="Start the project again, so that its image is built anew",
    )
