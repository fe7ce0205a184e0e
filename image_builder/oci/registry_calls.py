"""One call to a registry: authorised, tried again where that may help, and its refusals in plain words."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from urllib.parse import urljoin

import httpx

from image_builder.errors import BuildError
from image_builder.oci.reference import Reference
from image_builder.oci.registry_auth import Authenticator

TRIES = 5
AGAIN = (429, 500, 502, 503, 504)

Sleep = Callable[[float], Awaitable[None]]
Body = Callable[[], AsyncIterator[bytes]]


@dataclass(frozen=True, slots=True)
class Call:
    """What is asked. A body is a function, so that it can be sent again."""

    method: str
    url: str
    """Absolute, or relative to the registry's `/v2/`."""
    scope: str
    headers: dict[str, str] = field(default_factory=dict)
    content: bytes | Body | None = None
    stream: bool = False


class Calls:
    """Carries out calls to one registry; they may run side by side."""

    def __init__(self, name: str, base: str, client: httpx.AsyncClient, auth: Authenticator, sleep: Sleep) -> None:
        self._name = name
        self._base = base
        self._client = client
        self._auth = auth
        self._sleep = sleep

    async def patient(self, call: Call) -> httpx.Response:
        """Try until the registry says something definite.

        Raises:
            BuildError: code `registry_unreachable`, after five tries.
        """
        tries = 0
        while True:
            try:
                answer = await self.once(call)
            except httpx.TransportError as error:
                tries += 1
                await self.pause(tries, error=error)
                continue
            if answer.status_code not in AGAIN:
                return answer
            await answer.aclose()
            tries += 1
            await self.pause(tries, answer)

    async def once(self, call: Call) -> httpx.Response:
        """One try, with one answer to a challenge.

        Raises:
            httpx.TransportError: no answer, or it broke off.
        """
        answer = await self._send(call)
        challenge = answer.headers.get("www-authenticate", "")
        if answer.status_code == httpx.codes.UNAUTHORIZED and challenge:
            # Either nobody asked yet, or the token has expired: most live five minutes.
            self._auth.forget(call.scope)
            if await self._auth.answer(challenge, call.scope):
                await answer.aclose()
                return await self._send(call)
        return answer

    async def _send(self, call: Call) -> httpx.Response:
        url = httpx.URL(urljoin(self._base, call.url))
        # An upload may lead to a store of its own, on another host, which our credentials are no business of.
        known = self._auth.header(call.scope) if url.netloc == httpx.URL(self._base).netloc else None
        request = self._client.build_request(
            call.method,
            url,
            headers=call.headers | ({"Authorization": known} if known else {}),
            content=call.content() if callable(call.content) else call.content,
        )
        # Blobs are often redirected to a store of their own; httpx drops our Authorization on the way there.
        return await self._client.send(request, stream=call.stream, follow_redirects=call.method in ("GET", "HEAD"))

    async def pause(self, tries: int, answer: httpx.Response | None = None, *, error: Exception | None = None) -> None:
        """Wait before try number `tries` + 1, as long as the registry asks for.

        Raises:
            BuildError: code `registry_unreachable`: enough tries.
        """
        if tries >= TRIES:
            said = f"answers {answer.status_code}" if answer is not None else f"does not answer: {error!r}"
            raise BuildError(
                f"the registry {self._name} {said}, {tries} times now",
                "Check its address, the proxy and CA settings, and whether it is up; the build can be started again.",
                code="registry_unreachable",
                retryable=True,
            ) from error
        await self._sleep(_delay(tries, answer.headers.get("retry-after") if answer is not None else None))

    def expect(self, answer: httpx.Response, reference: Reference, *codes: int) -> httpx.Response:
        """The answer, if its status is one of `codes`.

        Raises:
            BuildError: code `registry_auth` or `registry_refused`.
        """
        if answer.status_code in codes:
            return answer
        if answer.status_code in (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN):
            raise BuildError(
                f"the registry {self._name} does not let us use {reference.repository} ({answer.status_code})",
                f"Run docker login {self._name}, or ask for the right to read and write {reference.repository}.",
                code="registry_auth",
            )
        what = f"{answer.request.method} {answer.request.url.path}"
        raise BuildError(
            f"the registry {self._name} answers {answer.status_code} to {what}",
            "Check that the repository exists and that its name is right.",
            code="registry_refused",
        )


def location(answer: httpx.Response, default: str = "") -> str:
    """The absolute URL of `Location`, which may be relative: section "Pushing blobs" of the specification."""
    return urljoin(str(answer.request.url), str(answer.headers.get("location") or default))


def _delay(tries: int, retry_after: str | None) -> float:
    """Seconds to wait: what the registry asks for (at most a minute), else 0.5, 1, 2 … with jitter."""
    if retry_after and retry_after.isdigit():
        return float(min(int(retry_after), 60))
    jitter = random.uniform(0.5, 1.5)  # noqa: S311 - spreads load, keeps no secret
    return 0.5 * float(2 ** (tries - 1)) * jitter
