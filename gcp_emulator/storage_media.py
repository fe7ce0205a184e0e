"""An object's bytes on their way out: ranges, headers, and gzip undone for who cannot read it."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from datetime import datetime
from email.utils import format_datetime
from pathlib import Path
from typing import Any

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from gcp_emulator.storage_call import Call
from gcp_emulator.storage_checksums import pieces
from gcp_emulator.storage_errors import RangeNotSatisfiable
from gcp_emulator.storage_ranges import wanted
from gcp_emulator.storage_resources import etag_of_object

Json = dict[str, Any]


class Bytes(Response):
    """Sends a file, or a part of it, piece by piece."""

    def __init__(self, content: Iterator[bytes], status: int, headers: dict[str, str]) -> None:
        super().__init__(status_code=status)
        self.raw_headers = [(key.lower().encode(), value.encode("utf-8")) for key, value in headers.items()]
        self._content = content

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        first = next(self._content, b"")  # from here on the file is open, and may be deleted
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        await send({"type": "http.response.body", "body": first, "more_body": True})
        for piece in self._content:
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


def media(call: Call, resource: Json, path: Path) -> Response:
    """200, 206 or 416."""
    size = int(resource["size"])
    headers = _headers(resource)
    gzipped = resource.get("contentEncoding") == "gzip"
    if gzipped and "gzip" not in call.headers.get("accept-encoding", ""):
        # https://cloud.google.com/storage/docs/transcoding : undone on the way, and ranges are not heeded
        headers["Warning"] = "214 UploadServer gunzipped"
        return Bytes(_unzipped(pieces(path)), 200, headers)
    if gzipped:
        headers["Content-Encoding"] = "gzip"
    elif resource.get("contentEncoding"):
        headers["Content-Encoding"] = resource["contentEncoding"]
    try:
        asked = wanted(call.headers.get("range"), size)
    except RangeNotSatisfiable as error:
        return _not_satisfiable(error)
    if asked is None:
        return Bytes(pieces(path), 200, {**headers, "Content-Length": str(size)})
    start, end = asked
    headers["Content-Range"] = f"bytes {start}-{end - 1}/{size}"
    return Bytes(pieces(path, start, end), 206, {**headers, "Content-Length": str(end - start)})


def _not_satisfiable(error: RangeNotSatisfiable) -> Response:
    headers = {"Content-Range": f"bytes */{error.size}"}
    return Response("Request range not satisfiable", 416, headers, "text/html; charset=UTF-8")


def _headers(resource: Json) -> dict[str, str]:
    """https://cloud.google.com/storage/docs/xml-api/reference-headers"""
    sums = [f"crc32c={resource['crc32c']}", *([f"md5={resource['md5Hash']}"] if "md5Hash" in resource else [])]
    modified = format_datetime(datetime.fromisoformat(resource["updated"]), usegmt=True)
    headers = {
        "Content-Type": resource.get("contentType", "application/octet-stream"),
        "ETag": etag_of_object(resource),
        "Last-Modified": modified,
        "Accept-Ranges": "bytes",
        "Cache-Control": resource.get("cacheControl", "private, max-age=0"),
        "X-Goog-Generation": resource["generation"],
        "X-Goog-Metageneration": resource["metageneration"],
        "X-Goog-Storage-Class": resource["storageClass"],
        "X-Goog-Hash": ",".join(sums),
        "X-Goog-Stored-Content-Encoding": resource.get("contentEncoding") or "identity",
        "X-Goog-Stored-Content-Length": resource["size"],
    }
    for key, header in (("contentDisposition", "Content-Disposition"), ("contentLanguage", "Content-Language")):
        if key in resource:
            headers[header] = resource[key]
    return headers


def _unzipped(compressed: Iterator[bytes]) -> Iterator[bytes]:
    unzip = zlib.decompressobj(wbits=31)
    for piece in compressed:
        yield unzip.decompress(piece)
    yield unzip.flush()
