"""A real proxy on loopback in front of a registry, which answers, cuts or falsifies what a rule names."""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from urllib.parse import unquote

_PIECE = 65536
_UPLOAD = re.compile(r"/blobs/uploads/([^?]+)")
_COMMITTED = re.compile(r"[?&]digest=(sha256:[0-9a-f]{64})")


@dataclass(frozen=True)
class Fault:
    """What happens to a request instead of being carried on; the first that is given.

    status: answered in the registry's place, with `headers`.
    reset_after: the connection is reset once so many bytes of the body have come; so is the registry's.
    break_after: the connection is closed after so many bytes of the answer's body.
    shorten_to: the answer's body has so many bytes, and claims no more.
    headers: with none of these: what the answer's headers say instead.
    """

    status: int | None = None
    reset_after: int | None = None
    break_after: int | None = None
    shorten_to: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)


Rule = Callable[[str, str], Fault | None]
"""Given method and path of a request."""


class FaultyProxy:
    """One connection to the registry for each request. `rule` may be changed at any time."""

    def __init__(self, registry: str, rule: Rule = lambda _method, _path: None) -> None:
        self.registry = registry
        self._host, _, port = registry.partition(":")
        self._port = int(port)
        self._tasks: set[asyncio.Task[None]] = set()
        self.rule = rule
        self.asked: list[str] = []
        self.ranges: list[str] = []
        self.uploads: Counter[str] = Counter()
        """Bytes that came for each upload, by its id."""
        self.committed: dict[str, str] = {}
        """Digest by id of the upload."""
        self.resets = 0
        self.address = ""

    @property
    def open(self) -> int:
        """Requests that are being carried."""
        return len(self._tasks)

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[FaultyProxy]:
        server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        try:
            yield self
        finally:
            server.close()
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await self._one(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            return  # the builder has gone, as one that is cancelled does
        finally:
            writer.close()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        first, headers = await _head(reader)
        method, path, _ = first.split(" ")
        fault = self._noted(method, path, headers)
        size = int(headers.get("content-length", 0))
        if fault.status is not None:
            await reader.readexactly(size)
            said = {**fault.headers, "Content-Length": "0", "Connection": "close"}
            writer.write(_lines(f"HTTP/1.1 {fault.status} Fault", said))
            await writer.drain()
            return
        up_reader, up_writer = await asyncio.open_connection(self._host, self._port)
        try:
            up_writer.write(_lines(first, headers | {"connection": "close"}))
            if await self._body(reader, up_writer, path, size, fault.reset_after):
                await _answer(up_reader, writer, fault)
            else:
                self.resets += 1
                writer.transport.abort()
        finally:
            up_writer.transport.abort()

    def _noted(self, method: str, path: str, headers: dict[str, str]) -> Fault:
        self.asked.append(f"{method} {path}")
        if "range" in headers:
            self.ranges.append(headers["range"])
        upload, digest = _UPLOAD.search(path), _COMMITTED.search(unquote(path))
        if method == "PUT" and upload and digest:
            self.committed[upload[1]] = digest[1]
        return self.rule(method, path) or Fault()

    async def _body(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, path: str, size: int, limit: int | None
    ) -> bool:
        """False once more than `limit` bytes have come."""
        upload, come = _UPLOAD.search(path), 0
        while come < size:
            data = await reader.read(min(_PIECE, size - come))
            if not data:
                raise ConnectionResetError
            come += len(data)
            if upload:
                self.uploads[upload[1]] += len(data)
            writer.write(data)
            await writer.drain()
            if limit is not None and come > limit:
                return False
        return True


async def _head(reader: asyncio.StreamReader) -> tuple[str, dict[str, str]]:
    """First line, and headers by their names in small letters."""
    first, *rows = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").strip().split("\r\n")
    return first, {name.lower(): value for name, _, value in (row.partition(": ") for row in rows)}


def _lines(first: str, headers: Mapping[str, str]) -> bytes:
    return "\r\n".join([first, *(f"{name}: {value}" for name, value in headers.items()), "", ""]).encode("latin-1")


async def _answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, fault: Fault) -> None:
    first, headers = await _head(reader)
    headers |= {name.lower(): value for name, value in fault.headers.items()}
    if fault.shorten_to is not None:
        headers["content-length"] = str(fault.shorten_to)
    writer.write(_lines(first, headers))
    left = fault.shorten_to if fault.shorten_to is not None else fault.break_after
    while data := await reader.read(_PIECE if left is None else min(left, _PIECE)):
        writer.write(data)
        await writer.drain()
        left = None if left is None else left - len(data)
