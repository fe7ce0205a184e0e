"""The Docker Engine's API, by aiodocker, with its errors in the manager's words.

What aiodocker is asked is written where it is asked; here is how it is reached, and what its errors mean:

    async with engine.asked("start container web-1") as docker:
        await docker.containers.container(id).start()
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Coroutine, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import aiohttp
from aiodocker import Docker, DockerError

from cloud_manager.errors import DeployError, PlaceUnavailable, TargetError
from cloud_manager.settings import Settings
from cloud_manager.targets.calls import Told, counted, untold
from cloud_manager.targets.docker_refusals import refusal, unavailable

_SOCKET = "unix:///var/run/docker.sock"
_NOT_REACHED = 900
"""aiodocker's status for an Engine that cannot be reached."""
_TIMEOUT = aiohttp.ClientTimeout(total=120, sock_connect=5)
"""Of a call that is answered at once; aiodocker waits for ever for streams (logs, load, pull) and for stop."""

T = TypeVar("T")


class EngineRefused(TargetError):
    """The Engine's answer is an error. `status`: its HTTP status."""

    status = 0


class Engine:
    """One Docker Engine, reached when it is first asked."""

    def __init__(
        self, host: str = "", *, tls: bool = False, certificates: Path | None = None, told: Told = untold
    ) -> None:
        """Args:
        host: as DOCKER_HOST: unix://… or tcp://…; empty: the usual socket.
        tls: whether tcp:// is spoken with TLS.
        certificates: folder with ca.pem, cert.pem, key.pem.
        told: hears of each call.
        """
        self.host = host or _SOCKET
        self._tls = tls
        self._told = told
        self._certificates = certificates
        self._docker: Docker | None = None
        self._info: Mapping[str, Any] | None = None

    @classmethod
    def of(cls, settings: Settings, told: Told = untold) -> Engine:
        tls, certificates = bool(settings.docker_tls_verify), settings.docker_cert_path
        return cls(settings.docker_host, tls=tls, certificates=certificates, told=told)

    @property
    def is_here(self) -> bool:
        """Whether it runs on this machine, or in the virtual machine that stands for it."""
        return urlsplit(self.host).scheme == "unix"

    @property
    def missing(self) -> str | None:
        """The socket that nobody has made, if that is where the Engine is to be; asked without a call."""
        parts = urlsplit(self.host)
        return parts.path if parts.scheme == "unix" and not Path(parts.path).exists() else None

    @asynccontextmanager
    async def asked(self, doing: str) -> AsyncIterator[Docker]:
        """The client; its errors become ours. doing: words for the error, e.g. `create container web-1`.

        Raises:
            PlaceUnavailable: the Engine does not answer. Retryable.
            EngineRefused: it answers with an error.
        """
        with counted(self._told, "docker", doing.split(maxsplit=1)[0]):
            try:
                yield self._client()
            except DockerError as error:
                if error.status == _NOT_REACHED:
                    raise _away(self.host, error.message) from error
                raise _refused(doing, error.status, error.message) from error
            except (aiohttp.ClientError, TimeoutError) as error:
                raise _away(self.host, f"{type(error).__name__} {error}".strip()) from error

    async def info(self) -> Mapping[str, Any]:
        """As `docker info`; asked once, what it tells hardly ever changes."""
        if self._info is None:
            async with self.asked("info") as docker:
                self._info = await docker.system.info()
        return self._info

    async def aclose(self) -> None:
        if self._docker is not None:
            await self._docker.close()
            self._docker = None

    def _client(self) -> Docker:
        if self._docker is None:
            url, trust = self.host, None
            if self._tls and not self.is_here:
                url, trust = f"https://{urlsplit(self.host).netloc}", _trust(self._certificates)
            try:
                self._docker = Docker(url=url, ssl_context=trust, timeout=_TIMEOUT)
            except ValueError as error:
                raise TargetError(f"DOCKER_HOST={self.host} is not understood", "write unix://… or tcp://…") from error
        return self._docker


async def to_the_end(work: Coroutine[Any, Any, T]) -> T:
    """A call that creates something: cancelled in its middle, it is awaited, so that what it made is there to be found.

    The Engine goes on with a request whose client has left.
    """
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.gather(task, return_exceptions=True)
        raise


def _refused(doing: str, status: int, message: str) -> EngineRefused:
    problem = refusal(doing, status, message)
    error = EngineRefused(problem.cause, problem.fix, code=problem.code, retryable=problem.retryable)
    error.status = status
    return error


def _away(host: str, reason: str) -> DeployError:
    return PlaceUnavailable.of(unavailable(host, reason))


def _trust(folder: Path | None) -> ssl.SSLContext:
    place = folder or Path.home() / ".docker"
    try:
        context = ssl.create_default_context(cafile=place / "ca.pem")
        context.load_cert_chain(place / "cert.pem", place / "key.pem")
    except OSError as error:  # ssl.SSLError is one
        raise _away("DOCKER_HOST", f"the certificates in {place} cannot be read: {error}") from error
    return context
