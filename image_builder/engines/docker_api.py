"""The Docker Engine's own HTTP API, as much of it as a build needs: https://docs.docker.com/reference/api/engine/

Over httpx, which is here anyway. aiodocker was looked at: it brings a second HTTP client (aiohttp) with other proxy and
TLS habits for a dozen calls.
"""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Generator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx

from image_builder.engines.engine import engine_failed
from image_builder.errors import BuildError
from image_builder.work import ended, in_thread

_SOCKET = "/var/run/docker.sock"
_TIMEOUT = httpx.Timeout(None, connect=5.0)
"""An installation may be silent for minutes; the build can be cancelled."""


class NoDocker(Exception):
    """There is no engine to talk to; the words say why."""


class DockerApi:
    """environ: DOCKER_HOST, DOCKER_TLS_VERIFY and DOCKER_CERT_PATH are obeyed; the command line's contexts are not."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ

    @asynccontextmanager
    async def connect(self) -> AsyncIterator[Connection]:
        """Raises:
        NoDocker
        """
        base, transport = _transport(self._environ)
        # Each run has its own: what is cancelled is closed, and the engine stops what it did for it.
        async with httpx.AsyncClient(base_url=base, transport=transport, timeout=_TIMEOUT, trust_env=False) as client:
            yield Connection(client)


class Connection:
    """Calls of one run."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client = client

    async def call(self, method: str, path: str, *accepted: int, **more: Any) -> httpx.Response:
        """Raises:
        NoDocker: the engine is gone. BuildError: `engine_failed`, with the engine's words. `accepted`: codes
            besides 2xx that are no error.
        """
        try:
            answer = await self._client.request(method, path, **more)
        except httpx.TransportError as error:
            raise NoDocker(f"{type(error).__name__} {error}".strip()) from error
        if answer.is_success or answer.status_code in accepted:
            return answer
        raise _refused(answer)

    async def json(self, method: str, path: str, *accepted: int, **more: Any) -> Any:
        return (await self.call(method, path, *accepted, **more)).json()

    @asynccontextmanager
    async def stream(self, method: str, path: str, **more: Any) -> AsyncIterator[httpx.Response]:
        """An answer that is read while it comes. Raises as `call`."""
        try:
            async with self._client.stream(method, path, **more) as answer:
                if not answer.is_success:
                    await answer.aread()
                    raise _refused(answer)
                yield answer
        except httpx.TransportError as error:
            raise NoDocker(f"{type(error).__name__} {error}".strip()) from error

    async def lines(self, method: str, path: str, **more: Any) -> AsyncIterator[dict[str, Any]]:
        """An answer of JSON documents, one on each line."""
        async with self.stream(method, path, **more) as answer:
            async for line in answer.aiter_lines():
                if line.strip():
                    yield json.loads(line)

    async def output(self, path: str, body: Mapping[str, Any]) -> AsyncIterator[str]:
        """Lines of a command's output; both its streams, which come in frames of an 8-byte head and their bytes."""
        data, text = bytearray(), ""
        async with self.stream("POST", path, json=body) as answer:
            async for chunk in answer.aiter_raw():
                data += chunk
                while len(data) >= 8 and len(data) >= 8 + int.from_bytes(data[4:8], "big"):
                    size = int.from_bytes(data[4:8], "big")
                    text += data[8 : 8 + size].decode(errors="replace")
                    del data[: 8 + size]
                    *whole, text = text.split("\n")
                    for line in whole:
                        yield line
        if text:
            yield text


class Upload:
    """What a generator gives, as a request's body; read in threads. After `cut` the request fails in its middle."""

    def __init__(self, chunks: Generator[bytes, None, None]) -> None:
        self._chunks = chunks
        self._is_cut = False

    def cut(self) -> None:
        self._is_cut = True

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            while (chunk := await in_thread(lambda _: next(self._chunks, None))) is not None:
                if self._is_cut:
                    raise httpx.WriteError("cancelled")
                yield chunk
        finally:
            self._chunks.close()


async def send_whole(
    engine: Connection, path: str, chunks: Generator[bytes, None, None], **more: Any
) -> httpx.Response:
    """POST, to the end or not at all: cancelled while it sends, the engine gets half an archive and drops it;
    cancelled later, its answer is awaited, so that what it made can be taken away.
    """
    upload = Upload(chunks)
    sending = asyncio.ensure_future(engine.call("POST", path, content=upload, **more))
    try:
        return await asyncio.shield(sending)
    except asyncio.CancelledError:
        upload.cut()
        await ended(sending)
        raise


def _transport(environ: Mapping[str, str]) -> tuple[str, httpx.AsyncHTTPTransport]:
    host = environ.get("DOCKER_HOST") or f"unix://{_SOCKET}"
    parts = urlsplit(host)
    if parts.scheme == "unix":
        if not Path(parts.path).is_socket():
            raise NoDocker(f"there is no socket {parts.path}")
        return "http://docker", httpx.AsyncHTTPTransport(uds=parts.path)
    if parts.scheme == "tcp":
        secure = bool(environ.get("DOCKER_TLS_VERIFY"))
        trust = _certificates(environ) if secure else False
        return f"http{'s' if secure else ''}://{parts.netloc}", httpx.AsyncHTTPTransport(verify=trust)
    raise NoDocker(f"DOCKER_HOST={host} is not understood; unix:// and tcp:// are")


def _certificates(environ: Mapping[str, str]) -> ssl.SSLContext:
    folder = Path(environ.get("DOCKER_CERT_PATH") or Path.home() / ".docker")
    try:
        context = ssl.create_default_context(cafile=folder / "ca.pem")
        context.load_cert_chain(folder / "cert.pem", folder / "key.pem")
    except (OSError, ssl.SSLError) as error:
        raise NoDocker(f"the certificates in {folder} cannot be read: {error}") from error
    return context


def _refused(answer: httpx.Response) -> BuildError:
    try:
        reason = str(answer.json()["message"])
    except (ValueError, KeyError, TypeError):
        reason = f"{answer.status_code} {answer.reason_phrase}"
    return engine_failed("docker", reason)
