"""storage.objects.insert in its three ways: the bytes alone, metadata and bytes in one body, and resumable."""

from __future__ import annotations

import secrets
from dataclasses import asdict
from email.message import Message
from typing import Any
from urllib.parse import quote

from starlette.responses import Response

from gcp_emulator.storage_call import Call, answer, json_object
from gcp_emulator.storage_checksums import Expected
from gcp_emulator.storage_errors import PlainError, StorageError, invalid, no_session, required
from gcp_emulator.storage_multipart import Part, Parts, boundary_of
from gcp_emulator.storage_preconditions import Preconditions
from gcp_emulator.storage_ranges import Sent, sent
from gcp_emulator.storage_resources import shown_object, storage_class, writable_object
from gcp_emulator.storage_resumable import Arriving, Body, plan
from gcp_emulator.storage_store import Incoming, Store, Written

Json = dict[str, Any]
_BINARY = "application/octet-stream"
_LONGEST_METADATA = 4 << 20
_WEEK = 7 * 86_400.0
"""Seconds that a session lives, as the service's do."""


class Uploads:
    def __init__(self, store: Store) -> None:
        self._store = store
        self._arriving: dict[str, Arriving] = {}

    async def insert(self, call: Call) -> Response:
        """storage.objects.insert"""
        if call.matched.kind != "upload":
            raise invalid("Upload requests go to /upload/storage/v1.")
        way = call.query.get("uploadType") or ("resumable" if "upload_id" in call.query else "")
        if way == "media":
            return await self._media(call)
        if way == "multipart":
            return await self._multipart(call)
        if way == "resumable":
            return await (self._continue(call) if "upload_id" in call.query else self._begin(call))
        raise required("uploadType")

    async def _media(self, call: Call) -> Response:
        target = self._target(call, {})
        metadata = _with_type({}, call, call.headers.get("content-type"))
        with Incoming(self._store) as incoming:
            async for piece in call.request.stream():
                incoming.write(piece)
            return self._finished(call, target, metadata, incoming.done())

    async def _multipart(self, call: Call) -> Response:
        parts = Parts(boundary_of(call.headers.get("content-type", "")))
        related = _Related()
        with Incoming(self._store) as incoming:
            async for piece in call.request.stream():
                for event in parts.feed(piece):
                    incoming.write(related.media_of(event))
            parts.finish()
            sent_metadata = related.metadata()
            metadata = _with_type(sent_metadata, call, related.media_type())
            return self._finished(call, self._target(call, sent_metadata), metadata, incoming.done())

    def _finished(self, call: Call, target: tuple[str, str], metadata: Json, written: Written) -> Response:
        Expected.of(metadata, call.headers).check(written.sums)
        resource = self._store.put(target, metadata, written, call.preconditions())
        return answer(call, shown_object(resource, call.base))

    def _target(self, call: Call, metadata: Json) -> tuple[str, str]:
        """Looked at before the bytes are: who may not write need not send. Raises StorageError."""
        name = call.query.get("name") or metadata.get("name")
        if not isinstance(name, str) or not name:
            raise required("name")
        self._store.check_target(call.bucket, name, call.preconditions())
        return call.bucket, name

    # resumable

    async def _begin(self, call: Call) -> Response:
        metadata = await call.json()
        bucket, name = self._target(call, metadata)
        metadata = _with_type(metadata, call, call.headers.get("x-upload-content-type"))
        writable_object(metadata)
        storage_class(metadata.get("storageClass"))
        upload = secrets.token_urlsafe(48)
        row = {
            "bucket": bucket,
            "name": name,
            "metadata": metadata,
            "conditions": asdict(call.preconditions()),
            "total": _length(call.headers.get("x-upload-content-length")),
            "expected": asdict(Expected.of(metadata, call.headers)),
            "file": self._store.blobs.new().name,
            "created": self._store.seconds(),
        }
        self._store.uploads.put(upload, row)
        path = f"{call.base}/upload/storage/v1/b/{bucket}/o?uploadType=resumable&name={quote(name, safe='')}"
        headers = {"Location": f"{path}&upload_id={upload}", "X-GUploader-UploadID": upload}
        return Response(status_code=200, headers=headers)

    async def _continue(self, call: Call) -> Response:
        upload = call.query["upload_id"]
        row = self._session(upload)
        if call.request.method == "DELETE":
            return self._cancelled(upload, row)
        if "resource" in row:  # the client did not see the answer, and asks again
            return answer(call, shown_object(row["resource"], call.base))
        if row.get("cancelled"):
            raise PlainError(499, "cancelled", "The upload was cancelled.")
        told = call.headers.get("content-range")
        return await self._receive(call, upload, row, sent(told) if told else None)

    async def _receive(self, call: Call, upload: str, row: Json, told: Sent | None) -> Response:
        arriving = self._arriving_of(upload, row)
        asked = plan(arriving.received, row["total"], told)
        if asked.total != row["total"]:
            row = {**row, "total": asked.total}
            self._store.uploads.put(upload, row)
        if told is not None and told.first is None and asked.total != arriving.received:
            return _incomplete(call, arriving.received)  # a question leaves alone who sends just now
        body = Body(arriving, asked)
        async for piece in call.request.stream():
            body.feed(piece)
        _check_length(told, body.length)
        if not body.finish():
            return _incomplete(call, arriving.received)
        return self._completed(call, upload, row, arriving)

    def _completed(self, call: Call, upload: str, row: Json, arriving: Arriving) -> Response:
        """The object, and the session that remembers it, in one step. A refusal is the session's end."""
        written = Written(arriving.path, arriving.sums())
        try:
            Expected.of({}, call.headers).or_else(Expected(**row["expected"])).check(written.sums)
            with self._store.transaction():
                conditions = Preconditions(**row["conditions"])
                resource = self._store.put((row["bucket"], row["name"]), row["metadata"], written, conditions)
                kept = {"resource": resource, "created": row["created"]}
                self._store.uploads.put(upload, kept)
        except StorageError:
            self._store.uploads.delete(upload)
            written.discard()
            raise
        finally:
            self._arriving.pop(upload, None)
        return answer(call, shown_object(resource, call.base))

    def _cancelled(self, upload: str, row: Json) -> Response:
        if "resource" not in row:
            arriving = self._arriving.pop(upload, None)
            if arriving is not None:
                arriving.own()  # a request that still sends may write no more
            self._store.uploads.put(upload, {"cancelled": True, "created": row["created"]})
            if "file" in row:
                self._store.blobs.unfinished(row["file"]).unlink(missing_ok=True)
        return Response(status_code=499)

    def _session(self, upload: str) -> Json:
        row = self._store.uploads.get(upload)
        if row is None or row["created"] + _WEEK < self._store.seconds():
            raise no_session()
        return dict(row)

    def _arriving_of(self, upload: str, row: Json) -> Arriving:
        if upload not in self._arriving:
            self._arriving[upload] = Arriving(self._store.blobs.unfinished(row["file"]))
        return self._arriving[upload]

    def forget_old(self) -> None:
        """Sessions of more than a week ago."""
        for upload, row in self._store.uploads.list():
            if row["created"] + _WEEK < self._store.seconds():
                self._store.uploads.delete(upload)


class _Related:
    """Which of the two parts the bytes belong to."""

    def __init__(self) -> None:
        self._headers: list[Message] = []
        self._json = bytearray()

    def media_of(self, event: Part | bytes) -> bytes:
        """The bytes of the object in it. Raises StorageError 400."""
        if isinstance(event, Part):
            self._headers.append(event.headers)
            if len(self._headers) > 2:
                raise invalid("Malformed multipart body: there are more than two parts.")
            return b""
        if len(self._headers) == 2:
            return event
        self._json += event
        if len(self._json) > _LONGEST_METADATA:
            raise invalid("Malformed multipart body: its first part is too large for metadata.")
        return b""

    def metadata(self) -> Json:
        if len(self._headers) != 2:
            raise invalid("Malformed multipart body: metadata and media are needed.")
        return json_object(bytes(self._json))

    def media_type(self) -> str | None:
        return self._headers[1]["content-type"]


def _with_type(metadata: Json, call: Call, content_type: str | None) -> Json:
    """The metadata's own type, then the media's; and `contentEncoding` of the query."""
    found = dict(metadata)
    found["contentType"] = found.get("contentType") or content_type or _BINARY
    if "contentEncoding" in call.query:
        found["contentEncoding"] = call.query["contentEncoding"]
    return found


def _length(header: str | None) -> int | None:
    if header is None:
        return None
    if not (header.isascii() and header.isdigit()):
        raise invalid(f"Invalid value of X-Upload-Content-Length: {header}")
    return int(header)


def _check_length(told: Sent | None, length: int) -> None:
    announced = 0 if told is None or told.first is None or told.last is None else told.last - told.first + 1
    if told is not None and announced != length:
        raise invalid(f"Invalid request. Content-Range announced {announced} bytes, and {length} came.")


def _incomplete(call: Call, received: int) -> Response:
    """308, or what a client takes that cannot have it."""
    headers = {"Range": f"bytes=0-{received - 1}"} if received else {}
    if call.headers.get("x-guploader-no-308", "") == "yes":
        return Response(status_code=200, headers={**headers, "X-HTTP-Status-Code-Override": "308"})
    return Response(status_code=308, headers=headers)
