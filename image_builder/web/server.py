"""The GUI's server: a second uvicorn in the event loop of the builder's API, which starts and ends it."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn
from starlette.types import ASGIApp

from image_builder.edge.connection import Connection
from image_builder.web.live import Streams

log = logging.getLogger(__name__)
_GRACE = 1  # seconds that answers under way have to end


class Gui:
    """Starts and stops with the server of the API. An address that cannot be had is told, and costs the GUI alone."""

    def __init__(self, app: ASGIApp, streams: Streams, host: str, port: int) -> None:
        self._app = app
        self._streams = streams
        self._host, self._port = host, port
        self._listener: socket.socket | None = None
        self._server: _Server | None = None
        self._serving: asyncio.Task[None] | None = None

    def start(self) -> None:
        """It listens when this returns, and says where."""
        self._listener = _listen(self._host, self._port)
        if self._listener is None:
            return
        sys.stdout.write(f"GUI: {_url(self._listener)}\n")
        sys.stdout.flush()
        self._server = _Server(self._app)
        self._serving = asyncio.create_task(self._server.serve(sockets=[self._listener]), name="GUI")

    async def stop(self) -> None:
        self._streams.close()
        if self._listener and self._server and self._serving:
            self._server.should_exit = True
            await asyncio.wait([self._serving])
            self._listener.close()


class _Server(uvicorn.Server):
    """Signals are for the API's server; this one ends after it."""

    def __init__(self, app: ASGIApp) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                log_config=None,
                access_log=False,
                server_header=False,
                http=Connection,
                ws="none",
                timeout_graceful_shutdown=_GRACE,
            )
        )

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _listen(host: str, port: int) -> socket.socket | None:
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family, backlog=256)
    except OSError as error:
        number = error.errno or 0  # that of a name which is not found is negative, and of another list
        reason = os.strerror(number) if number > 0 else error.strerror
        log.warning(
            "there is no GUI: cannot listen on %s:%d: %s. Set WEB_HOST and WEB_PORT to a free address of this machine, "
            "or stop what has it, then start the builder again",
            *(host, port, reason),
        )
        return None


def _url(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
