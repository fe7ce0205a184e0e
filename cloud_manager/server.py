"""uvicorn, with an end that is soon and clean."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import uvicorn
from starlette.types import ASGIApp

from cloud_manager.errors import DeployError
from image_builder.edge.connection import Connection

_GRACE = 5
"""Seconds that answers under way may take once the server goes down."""


class CannotListen(DeployError):
    code = "cannot_listen"


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens; with port 0 on a free one.

    Raises:
        CannotListen: the address is taken, not of this machine, or not allowed.
    """
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family, backlog=2048)
    except OSError as error:
        number = error.errno or 0  # A name that is not found has a negative one, of another list.
        reason = os.strerror(number) if number > 0 else error.strerror
        raise CannotListen(
            f"cannot listen on {host}:{port}: {reason}",
            "Set CLOUD_MANAGER_HOST and CLOUD_MANAGER_PORT to a free address of this machine, or stop what has it",
        ) from error


def url_of(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


class Server(uvicorn.Server):
    """Closes the event streams first, which would never end by themselves; leaves the exit code to the caller."""

    def __init__(self, app: ASGIApp, close_streams: Callable[[], None]) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                log_config=None,
                access_log=False,  # Every project is asked for every two seconds.
                server_header=False,
                http=Connection,
                ws="none",
                timeout_graceful_shutdown=_GRACE,
                lifespan="on",
            )
        )
        self._close_streams = close_streams

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._close_streams()
        await super().shutdown(sockets)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """A signal asks for the end; unlike uvicorn's own, it is not raised again once all is closed."""
        if threading.current_thread() is not threading.main_thread():
            yield  # Only a main thread has signals; another is ended by `should_exit`.
            return
        loop = asyncio.get_running_loop()
        signals = (signal.SIGINT, signal.SIGTERM)
        for each in signals:
            loop.add_signal_handler(each, self.handle_exit, each, None)
        try:
            yield
        finally:
            for each in signals:
                loop.remove_signal_handler(each)
