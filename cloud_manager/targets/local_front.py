"""The stable address of a project: a TCP relay that can be turned to another revision between two connections."""

from __future__ import annotations

import asyncio
import errno
from collections import Counter
from typing import cast

from cloud_manager.targets.local_health import LOOPBACK, listener
from cloud_manager.targets.local_problems import cannot_listen, port_in_use
from cloud_manager.targets.local_run import Problem

_CHUNK = 256 * 1024


class CannotListen(Exception):
    """The public address cannot be had."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        super().__init__(problem["cause"])


class Front:
    """Relays each connection to the backend of the moment it came; closes it at once while there is none."""

    def __init__(self, host: str, port: int, server: asyncio.Server | None = None) -> None:
        self.host = host
        self.port = port
        self.backend: int | None = None
        self._server = server
        self._connections: set[asyncio.Task[None]] = set()
        self._open: Counter[int] = Counter()

    @classmethod
    async def listen(cls, host: str, port: int | None) -> Front:
        """Port None: any free one.

        Raises:
            CannotListen: with the problem in words.
        """
        if port is not None and await _answers(host, port):
            # BSD lets a second process listen on a more special address; the first would lose its clients.
            raise CannotListen(port_in_use(host, port, await asyncio.to_thread(listener, port)))
        front = cls(host, port or 0)
        try:
            front._server = await asyncio.start_server(front._accept, host, port or 0)
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                found = port_in_use(host, port or 0, await asyncio.to_thread(listener, port or 0))
            else:
                found = cannot_listen(host, port or 0, error.strerror or str(error))
            raise CannotListen(found) from error
        front.port = front._server.sockets[0].getsockname()[1]
        return front

    async def drained(self, backend: int, seconds: float) -> None:
        """Wait until no connection goes to a backend any more, for `seconds` at most."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + seconds
        while self._open[backend] > 0 and loop.time() < deadline:  # noqa: ASYNC110 - a bounded, rare wait
            await asyncio.sleep(0.05)

    async def close(self) -> None:
        if self._server:
            self._server.close()
        for task in list(self._connections):
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    def stop_accepting(self) -> None:
        """Free the port; connections that are open go on."""
        if self._server:
            self._server.close()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = cast("asyncio.Task[None]", asyncio.current_task())
        self._connections.add(task)
        backend = self.backend
        if backend is not None:
            self._open[backend] += 1
        try:
            if backend is not None:
                await _relay(reader, writer, backend)
        except (OSError, asyncio.CancelledError):
            pass  # the other side is gone, or we are closing: the connection ends below either way
        finally:
            self._connections.discard(task)
            if backend is not None:
                self._open[backend] -= 1
            writer.close()


async def _relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, backend: int) -> None:
    inner_reader, inner_writer = await asyncio.open_connection(LOOPBACK, backend)
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(_copy(reader, inner_writer))
            group.create_task(_copy(inner_reader, writer))
    except* OSError:
        pass  # one side reset the connection; the other is closed below
    finally:
        inner_writer.close()


async def _copy(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    while data := await source.read(_CHUNK):
        sink.write(data)
        await sink.drain()
    if sink.can_write_eof():
        sink.write_eof()


async def _answers(host: str, port: int) -> bool:
    target = {"0.0.0.0": LOOPBACK, "::": "::1"}.get(host, host)  # noqa: S104 - compared, not listened on
    try:
        async with asyncio.timeout(1.0):
            _, writer = await asyncio.open_connection(target, port)
    except (OSError, TimeoutError):
        return False
    writer.close()
    return True
