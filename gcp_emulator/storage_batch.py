"""Several calls in one request: each is answered as if it had come alone, in the order of the request.

https://cloud.google.com/storage/docs/batch
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from email.parser import BytesHeaderParser
from urllib.parse import unquote, urlsplit

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Scope

from gcp_emulator.storage_errors import invalid
from gcp_emulator.storage_multipart import boundary_of, whole_parts

_LONGEST = 10 << 20
_MOST = 1000
"""As many as the python client puts in one. (The service's documentation asks for 100 at most.)"""


@dataclass(frozen=True)
class Asked:
    verb: str
    path: str
    query: str
    headers: dict[str, str]
    body: bytes


@dataclass
class _Answered:
    status: int = 500
    headers: list[tuple[bytes, bytes]] = field(default_factory=list)
    body: bytes = b""

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.headers = list(message["headers"])
        else:
            self.body += message.get("body", b"")


async def batch(request: Request, app: ASGIApp) -> Response:
    """Raises StorageError 400."""
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > _LONGEST:
            raise invalid("The batch request is too large.")
    parts = whole_parts(boundary_of(request.headers.get("content-type", "")), bytes(body))
    if len(parts) > _MOST:
        raise invalid(f"The batch request has {len(parts)} calls; {_MOST} are the most.")
    boundary = f"batch_{secrets.token_urlsafe(24)}"
    written = bytearray()
    for headers, data in parts:
        answered = await _call(request, app, asked(data))
        written += _written(boundary, headers.get("content-id", ""), answered)
    written += f"--{boundary}--\r\n".encode()
    return Response(bytes(written), headers={"Content-Type": f"multipart/mixed; boundary={boundary}"})


def asked(data: bytes) -> Asked:
    """A part: a request line, headers, a body. Raises StorageError 400."""
    line, _, rest = data.lstrip(b"\r\n").partition(b"\n")
    words = line.decode("latin-1").split()
    if len(words) != 3:
        raise invalid("Failed to parse batch request: a part does not begin with a request line.")
    head, found, body = _split(rest)
    message = BytesHeaderParser().parsebytes(head)
    if not found and head.strip():
        body = b""
    target = urlsplit(words[1])
    if target.path.startswith(("/upload", "/download", "/resumable", "/batch")) or "alt=media" in target.query:
        raise invalid("Uploads, downloads and batches cannot be part of a batch.")
    headers = {key.lower(): str(value) for key, value in message.items()}
    return Asked(words[0].upper(), target.path, target.query, headers, body)


def _split(rest: bytes) -> tuple[bytes, bool, bytes]:
    """Headers and body, with either kind of line ending."""
    if rest.startswith((b"\r\n", b"\n")):
        return b"", True, rest.lstrip(b"\r\n")
    ends = [(rest.find(mark), mark) for mark in (b"\r\n\r\n", b"\n\n") if mark in rest]
    if not ends:
        return rest, False, b""
    at, mark = min(ends)
    return rest[:at], True, rest[at + len(mark) :]


async def _call(outer: Request, app: ASGIApp, wanted: Asked) -> _Answered:
    headers = {"authorization": outer.headers.get("authorization", ""), **wanted.headers}
    headers["host"] = outer.headers.get("host", "")
    scope: Scope = {
        **outer.scope,
        "method": wanted.verb,
        "path": unquote(wanted.path),
        "raw_path": wanted.path.encode(),
        "query_string": wanted.query.encode(),
        "headers": [(key.encode("latin-1"), value.encode("latin-1")) for key, value in headers.items()],
    }

    async def receive() -> Message:
        return {"type": "http.request", "body": wanted.body, "more_body": False}

    answered = _Answered()
    await app(scope, receive, answered.send)
    return answered


def _written(boundary: str, content_id: str, answered: _Answered) -> bytes:
    """https://www.rfc-editor.org/rfc/rfc9110 in https://www.rfc-editor.org/rfc/rfc2046"""
    identity = f"Content-ID: <response-{content_id.strip('<>')}>\r\n" if content_id else ""
    head = f"--{boundary}\r\nContent-Type: application/http\r\n{identity}\r\nHTTP/1.1 {answered.status} .\r\n"
    headers = b"".join(key + b": " + value + b"\r\n" for key, value in answered.headers)
    return head.encode() + headers + b"\r\n" + answered.body + b"\r\n"
