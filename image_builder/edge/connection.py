"""One connection, bounded where uvicorn's own is not: how large the head of a request is, and how long it may take."""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

_LARGEST_HEAD = 64 * 1024
"""Bytes, counted in the pieces in which they come."""
_PATIENCE = 10.0
"""Seconds for a whole head; waiting for the next request of a connection is uvicorn's `timeout_keep_alive`."""
_LINGER = 1.0
"""Seconds for which what still comes is thrown away."""


class Connection(HttpToolsProtocol):
    """For `uvicorn.Config(http=...)`. Who sends too slowly, or never ends, is answered and let go."""

    _head = 0
    _timer: asyncio.TimerHandle | None = None
    _refused = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._timer = self.loop.call_later(_PATIENCE, self._refuse, 408)

    def data_received(self, data: bytes) -> None:
        if self._refused:
            return
        super().data_received(data)
        scope: Any = self.scope  # None before the first line has come, whatever its type says.
        if scope and "method" in scope:  # All of the head is here.
            self._head = 0
            self._stop_waiting()
            return
        self._head += len(data)
        if self._head > _LARGEST_HEAD:
            self._refuse(431)
        elif self._timer is None:
            self._timer = self.loop.call_later(_PATIENCE, self._refuse, 408)

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_waiting()
        super().connection_lost(exc)

    def _stop_waiting(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _refuse(self, status: int) -> None:
        self._stop_waiting()
        if self.transport.is_closing():
            return
        words = {408: b"408 Request Timeout", 431: b"431 Request Header Fields Too Large"}[status]
        self.transport.write(b"HTTP/1.1 " + words + b"\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
        # Closed while more comes in, it would be reset, and the answer lost with it.
        # https://www.rfc-editor.org/rfc/rfc9112#section-9.6
        self._refused = True
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self._timer = self.loop.call_later(_LINGER, self.transport.close)
