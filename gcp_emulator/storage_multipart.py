"""multipart/related and multipart/mixed, read as they stream in. Pure.

https://www.rfc-editor.org/rfc/rfc2046#section-5.1 . Google's own clients end lines with CRLF or with LF alone; which
one it is shows in the first line.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from email.message import Message
from email.parser import BytesHeaderParser

from gcp_emulator.storage_errors import invalid

_HEADERS = re.compile(rb"\A(?:\r?\n|.*?\r?\n\r?\n)", re.DOTALL)
_LONGEST_HEADERS = 64 << 10


@dataclass
class Part:
    """The beginning of a part."""

    headers: Message = field(default_factory=Message)


def boundary_of(content_type: str) -> bytes:
    """Raises StorageError 400."""
    message = Message()
    message["content-type"] = content_type
    boundary = message.get_boundary()
    if not content_type.lower().startswith("multipart/") or not boundary:
        raise invalid("Bad Content-Type: a multipart type with a boundary is needed.")
    if len(boundary) > 2 and boundary[0] == boundary[-1] == "'":  # as gsutil quotes it
        boundary = boundary[1:-1]
    return boundary.encode()


class Parts:
    """Feed it bytes; it gives a `Part` for each that begins, and the bytes of it as they come."""

    def __init__(self, boundary: bytes) -> None:
        self._mark = b"--" + boundary
        self._delimiter = b""
        self._buffer = bytearray()
        self._step: Callable[[list[Part | bytes]], bool] = self._start

    @property
    def ended(self) -> bool:
        return self._step == self._end

    def feed(self, piece: bytes) -> list[Part | bytes]:
        """Raises StorageError 400."""
        self._buffer += piece
        found: list[Part | bytes] = []
        while self._step(found):
            pass
        return found

    def finish(self) -> None:
        """Raises StorageError 400 where the last boundary has not come."""
        if not self.ended:
            raise invalid("Malformed multipart body: it ends before its last boundary.")

    def _start(self, _: list[Part | bytes]) -> bool:
        """Each step says whether there is enough for another one."""
        at = self._buffer.find(self._mark)
        end = self._buffer.find(b"\n", at)
        if at < 0 or end < 0:
            if len(self._buffer) > _LONGEST_HEADERS:
                raise invalid("Malformed multipart body: it does not begin with its boundary.")
            return False
        newline = b"\r\n" if self._buffer[end - 1 : end] == b"\r" else b"\n"
        self._delimiter = newline + self._mark
        del self._buffer[: end + 1]
        self._step = self._headers
        return True

    def _headers(self, found: list[Part | bytes]) -> bool:
        match = _HEADERS.match(self._buffer)
        if match is None:
            if len(self._buffer) > _LONGEST_HEADERS:
                raise invalid("Malformed multipart body: the headers of a part do not end.")
            return False
        found.append(Part(BytesHeaderParser().parsebytes(match.group())))
        del self._buffer[: match.end()]
        self._step = self._data
        return True

    def _data(self, found: list[Part | bytes]) -> bool:
        at = self._buffer.find(self._delimiter)
        safe = at if at >= 0 else max(0, len(self._buffer) - len(self._delimiter) + 1)
        if safe:
            found.append(bytes(self._buffer[:safe]))
            del self._buffer[:safe]
        if at < 0:
            return False
        self._step = self._boundary
        return True

    def _boundary(self, _: list[Part | bytes]) -> bool:
        rest = self._buffer[len(self._delimiter) :]
        if rest.startswith(b"--"):
            self._step = self._end
            return True
        end = rest.find(b"\n")
        if end < 0:
            return False
        del self._buffer[: len(self._delimiter) + end + 1]
        self._step = self._headers
        return True

    def _end(self, _: list[Part | bytes]) -> bool:
        self._buffer.clear()
        return False


def whole_parts(boundary: bytes, body: bytes) -> list[tuple[Message, bytes]]:
    """All parts of a body that is in memory. Raises StorageError 400."""
    parts = Parts(boundary)
    found: list[tuple[Message, bytes]] = []
    for event in parts.feed(body):
        if isinstance(event, Part):
            found.append((event.headers, b""))
        else:
            headers, data = found[-1]
            found[-1] = (headers, data + event)
    parts.finish()
    return found
