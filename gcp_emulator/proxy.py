"""The HTTPS proxy by which Google's host names lead to the twin.

`CONNECT host:443` ends here: TLS with a certificate for that host, then plain bytes to the backend that serves it.
A host that the twin does not serve is refused, or passed on unread where that was asked for and it is not Google's.
"""

from __future__ import annotations

import asyncio
import logging
import re
import ssl
from collections.abc import Mapping
from contextlib import suppress

from gcp_emulator.certificates import Authority
from gcp_emulator.hosts import Backend, backends_of, is_googles
from gcp_emulator.onward import Connection, Onward

_log = logging.getLogger(__name__)
_CHUNK = 1 << 18
_LONGEST_HEAD = 1 << 16
_HEAD_SECONDS = 30.0
_ESTABLISHED = b"HTTP/1.1 200 Connection Established\r\n\r\n"
_TARGET = re.compile(r"CONNECT ([^\s:]+):(\d+) HTTP/1\.[01]")

Address = tuple[str, int]


class Proxy:
    def __init__(
        self, authority: Authority, backends: Mapping[Backend, Address], onward: Onward | None, listen: str
    ) -> None:
        """Args:
        onward: the way to hosts that are not Google's; None: there is none.
        listen: the address to listen on.
        """
        self._authority = authority
        self._backends = backends
        self._listen = listen
        self._onward = onward
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.Task[None]] = set()

    async def start(self, port: int = 0) -> int:
        """The port that it listens on. Raises OSError."""
        self._server = await asyncio.start_server(self._serve, self._listen, port, limit=_LONGEST_HEAD)
        return int(self._server.sockets[0].getsockname()[1])

    async def stop(self) -> None:
        """Connections that are open are cut."""
        if self._server:
            self._server.close()
        for task in list(self._open):
            task.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task:
            self._open.add(task)
        try:
            await self._tunnel(reader, writer)
        except (OSError, ssl.SSLError, asyncio.IncompleteReadError, TimeoutError) as error:
            _log.debug("a connection ended early: %s", error)
        except asyncio.CancelledError:
            _log.debug("a connection was cut at the end")
        finally:
            writer.transport.abort()
            if task:
                self._open.discard(task)

    async def _tunnel(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        line = await _request_line(reader)
        target = _TARGET.fullmatch(line)
        if target is None:
            await _refuse(writer, 405, "this proxy is for HTTPS: it takes CONNECT and nothing else")
            return
        host, port = target[1].lower().rstrip("."), int(target[2])
        if self._onward and not is_googles(host):
            await self._pass_on(self._onward, (host, port), reader, writer)
        elif (known := self._known(host)) and port == 443:
            await self._answer(host, known, reader, writer)
        else:
            _log.warning("refused: %s:%s", host, port)
            await _refuse(writer, 502, f"gcp_emulator does not serve {host}:{port}, and does not forward it")

    async def _answer(
        self, host: str, known: Mapping[str, Backend], reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        writer.write(_ESTABLISHED)
        await writer.start_tls(self._authority.context(host, tuple(known)))
        agreed = writer.get_extra_info("ssl_object").selected_alpn_protocol() or "http/1.1"
        if agreed in known:  # else: a client without ALPN, where only HTTP/2 is spoken
            address = self._backends[known[agreed]]
            await _join(reader, writer, await asyncio.open_connection(*address, limit=_CHUNK))

    async def _pass_on(
        self, onward: Onward, address: Address, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        try:
            there = await onward.open(*address)
        except OSError as error:
            await _refuse(writer, 502, f"gcp_emulator cannot reach {address[0]}:{address[1]}: {error}")
            return
        writer.write(_ESTABLISHED)
        await _join(reader, writer, there)

    def _known(self, host: str) -> dict[str, Backend]:
        """Those backends that this twin was started with."""
        return {protocol: name for protocol, name in backends_of(host).items() if name in self._backends}


async def _request_line(reader: asyncio.StreamReader) -> str:
    async with asyncio.timeout(_HEAD_SECONDS):
        try:
            head = await reader.readuntil(b"\r\n\r\n")
        except asyncio.LimitOverrunError as error:
            raise OSError("the head of a request is too long") from error
    return head.split(b"\r\n", 1)[0].decode("latin-1")


async def _refuse(writer: asyncio.StreamWriter, status: int, words: str) -> None:
    body = f"{words}\n".encode()
    reason = "Bad Gateway" if status == 502 else "Method Not Allowed"
    head = f"HTTP/1.1 {status} {reason}\r\nContent-Type: text/plain\r\nContent-Length: {len(body)}\r\n"
    writer.write(f"{head}Connection: close\r\n\r\n".encode() + body)
    await writer.drain()
    writer.close()
    await writer.wait_closed()


async def _join(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, there: Connection) -> None:
    """Carry bytes both ways until both sides have said all, or one breaks off."""
    back_reader, back_writer = there
    try:
        async with asyncio.TaskGroup() as both:
            both.create_task(_carry(reader, back_writer))
            both.create_task(_carry(back_reader, writer, last=True))
    except* OSError as errors:
        _log.debug("a connection broke: %s", errors.exceptions)
    finally:
        back_writer.transport.abort()


async def _carry(source: asyncio.StreamReader, sink: asyncio.StreamWriter, *, last: bool = False) -> None:
    """`last`: when the source ends, so does all; TLS cannot end one way alone."""
    while data := await source.read(_CHUNK):
        sink.write(data)
        await sink.drain()
    if last:
        sink.close()
        with suppress(OSError):
            await sink.wait_closed()
        return
    if sink.can_write_eof():
        sink.write_eof()
