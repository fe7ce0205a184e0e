"""A Cloud Run twin on loopback and Google's stock clients for it, without the proxy before it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import httpx
from google.cloud import run_v2
from google.cloud.run_v2.services.revisions.transports import RevisionsGrpcAsyncIOTransport
from google.cloud.run_v2.services.services.transports import ServicesGrpcAsyncIOTransport

from gcp_emulator.accounts import Accounts
from gcp_emulator.clock import SystemClock
from gcp_emulator.faults import Faults, Rule
from gcp_emulator.run_backend import Run, RunServer, cloud_run, grpc_server
from gcp_emulator.runtime_protocol import ImageDenied, ImageMissing, Launch, Runtime
from gcp_emulator.settings import Settings
from gcp_emulator.state import State
from gcp_emulator.tokens import Tokens
from gcp_emulator.twin import Twin

PARENT = "projects/twin-project/locations/us-central1"
IMAGE = "us-central1-docker.pkg.dev/twin-project/cloud-deploy/hello"


class LoopbackInstance:
    """A "container" that answers with what it was started with."""

    def __init__(self, launch: Launch) -> None:
        self.launch = launch
        self.ended: int | None = None
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.StreamWriter] = set()

    async def listen(self) -> None:
        self._server = await asyncio.start_server(self._answer, "127.0.0.1", 0)

    @property
    def address(self) -> tuple[str, int]:
        return ("127.0.0.1", self._server.sockets[0].getsockname()[1] if self._server else 1)

    @property
    def status(self) -> int | None:
        return self.ended

    async def stop(self, grace: float = 10.0) -> None:
        self.ended = 0 if self.ended is None else self.ended
        if self._server:
            self._server.close()
            for writer in self._open:
                writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open.add(writer)
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            await reader.readuntil(b"\r\n\r\n")
            body = dict(self.launch.env)["K_REVISION"].encode()
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s" % (len(body), body))
            await writer.drain()
        self._open.discard(writer)
        writer.close()


class LoopbackRuntime:
    """Images by name: `…/missing`, `…/denied`, `…/crashes`, `…/deaf`; all others come up."""

    def __init__(self) -> None:
        self.instances: list[LoopbackInstance] = []

    async def start(self, launch: Launch) -> LoopbackInstance:
        name = launch.image.rsplit("/", 1)[-1]
        if name == "missing":
            raise ImageMissing(launch.image)
        if name == "denied":
            raise ImageDenied(launch.image)
        instance = LoopbackInstance(launch)
        if name == "crashes":
            instance.ended = 1
        elif name != "deaf":
            await instance.listen()
        self.instances.append(instance)
        return instance

    async def sweep(self) -> None:
        return None

    async def close(self) -> None:
        return None

    def running(self) -> list[str]:
        return sorted(one.launch.revision.rsplit("/", 1)[-1] for one in self.instances if one.ended is None)


@dataclass
class Stock:
    """`services` and `revisions` are Google's clients."""

    twin: Twin
    run: Run
    port: int
    services: run_v2.ServicesAsyncClient
    revisions: run_v2.RevisionsAsyncClient
    channel: grpc.aio.Channel
    web: httpx.AsyncClient
    runtime: Any = field(default=None)

    async def create(self, service: run_v2.Service, service_id: str = "hello", parent: str = PARENT) -> run_v2.Service:
        """The outcome; raises what the client raises where it failed."""
        request = run_v2.CreateServiceRequest(parent=parent, service=service, service_id=service_id)
        return await outcome(await self.services.create_service(request))

    async def update(self, service: run_v2.Service, **more: Any) -> run_v2.Service:
        request = run_v2.UpdateServiceRequest(service=service, **more)
        return await outcome(await self.services.update_service(request))

    def fail(self, **rule: Any) -> None:
        self.twin.faults.add(Rule(**rule))


async def outcome(operation: Any) -> Any:
    """As `operation.result()`, whose backoff begins with a second."""
    while not await operation.done():
        await asyncio.sleep(0.02)
    return await operation.result()


def service(image: str = IMAGE, **fields: Any) -> run_v2.Service:
    """A service of one container; `template` takes fields of the template."""
    template = {"containers": [run_v2.Container(image=image)], **fields.pop("template", {})}
    return run_v2.Service(template=run_v2.RevisionTemplate(template), **fields)


class _Authorized(grpc.aio.UnaryUnaryClientInterceptor):
    def __init__(self, token: str) -> None:
        self._token = token

    async def intercept_unary_unary(self, continuation: Any, details: Any, request: Any) -> Any:
        if details.metadata is None:
            details = details._replace(metadata=grpc.aio.Metadata())
        details.metadata.add("authorization", f"Bearer {self._token}")
        return await continuation(details, request)


def twin_of(settings: Settings) -> Twin:
    """As `open_twin`, without a service account's key, which takes half a second to make."""
    state, clock = State(settings.state), SystemClock()
    accounts = Accounts(state)
    return Twin(settings, state, Faults(), clock, accounts, Tokens(state, accounts, clock))


@asynccontextmanager
async def stock(
    folder: Path, runtime: Callable[[Twin], Runtime] | None = None, **settings: Any
) -> AsyncIterator[Stock]:
    twin = twin_of(Settings(state=folder / "state", **settings))
    chosen = runtime(twin) if runtime else LoopbackRuntime()
    run = cloud_run(twin, chosen, pace=0.0)
    server = RunServer(run, grpc_server(twin, run.services))
    port = await server.start()
    token = twin.tokens.issue(twin.settings.service_account, "cloud-platform")
    channel = grpc.aio.insecure_channel(f"127.0.0.1:{port}", interceptors=[_Authorized(token)])
    web = httpx.AsyncClient(transport=httpx.ASGITransport(app=run.ingress))
    try:
        yield Stock(
            twin,
            run,
            port,
            run_v2.ServicesAsyncClient(transport=ServicesGrpcAsyncIOTransport(channel=channel)),
            run_v2.RevisionsAsyncClient(transport=RevisionsGrpcAsyncIOTransport(channel=channel)),
            channel,
            web,
            chosen,
        )
    finally:
        await web.aclose()
        await channel.close()
        await server.stop()
        twin.state.close()
