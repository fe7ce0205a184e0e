"""Servers on ports of loopback, in the event loop of the emulator; one of them for any ASGI application."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send

_KEEP_ALIVE = 240  # seconds; clients that pool connections expect Google's servers to be patient
_GRACE = 1


class Server(Protocol):
    async def start(self, port: int = 0) -> int:
        """Listen on 127.0.0.1; the port. Raises OSError."""
        ...

    async def stop(self) -> None: ...


class HttpServer:
    """`https`: the application sees what the client sees, although TLS ends in the proxy."""

    def __init__(self, app: ASGIApp, *, https: bool = True) -> None:
        config = uvicorn.Config(
            _behind_tls(app) if https else app,
            log_config=None,
            access_log=False,
            timeout_keep_alive=_KEEP_ALIVE,
            timeout_graceful_shutdown=_GRACE,
        )
        self._server = _Server(config)
        self._running: asyncio.Task[None] | None = None

    async def start(self, port: int = 0) -> int:
        """The port that it listens on. Raises OSError."""
        listening = socket.socket()
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind(("127.0.0.1", port))
        except OSError:
            listening.close()
            raise
        self._running = asyncio.create_task(self._server.serve(sockets=[listening]))
        ready = asyncio.create_task(self._server.ready.wait())
        await asyncio.wait([self._running, ready], return_when=asyncio.FIRST_COMPLETED)
        if self._running.done():
            ready.cancel()
            raise OSError("an application of the emulator did not start; the log says why")
        return int(listening.getsockname()[1])

    async def stop(self) -> None:
        self._server.should_exit = True
        if self._running:
            await self._running


class _Server(uvicorn.Server):
    """Several in one process: signals are the emulator's business."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.ready = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self.ready.set()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _behind_tls(app: ASGIApp) -> ASGIApp:
    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        secure = {"http": "https", "websocket": "wss"}.get(scope["type"])
        await app({**scope, "scheme": secure} if secure else scope, receive, send)

    return application
