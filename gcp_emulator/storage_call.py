"""One call of the JSON API as its handlers see it, and the answers that they give."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from gcp_emulator import storage_fields
from gcp_emulator.storage_errors import StorageError
from gcp_emulator.storage_methods import Matched
from gcp_emulator.storage_preconditions import Preconditions, whole_number

Json = dict[str, Any]
_LONGEST = 4 << 20
"""Bytes of metadata in a call at most."""


@dataclass
class Call:
    matched: Matched
    request: Request

    @property
    def bucket(self) -> str:
        return self.matched.arguments.get("bucket", "")

    @property
    def object(self) -> str:
        return self.matched.arguments.get("object", "")

    @property
    def query(self) -> Mapping[str, str]:
        return self.request.query_params

    @property
    def headers(self) -> Mapping[str, str]:
        return self.request.headers

    @property
    def media(self) -> bool:
        """Whether the bytes are asked for, not what is known of them."""
        asked = self.matched.kind == "download" or self.query.get("alt") == "media"
        return asked and self.matched.name == "storage.objects.get"

    @property
    def base(self) -> str:
        """Scheme and host that the client used: links in answers lead there."""
        return f"{self.request.url.scheme}://{self.headers.get('host', 'storage.googleapis.com')}"

    def preconditions(self) -> Preconditions:
        return Preconditions.of(self.query)

    def number(self, name: str) -> int | None:
        return whole_number(self.query, name)

    async def json(self) -> Json:
        """The body; nothing is `{}`. Raises StorageError 400, 413."""
        body = bytearray()
        async for piece in self.request.stream():
            body += piece
            if len(body) > _LONGEST:
                raise StorageError(413, "uploadTooLarge", "Request Entity Too Large")
        return json_object(bytes(body))


Handler = Callable[[Call], Awaitable[Response]]


def json_object(body: bytes) -> Json:
    """Raises StorageError 400."""
    if not body.strip():
        return {}
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        raise StorageError(400, "parseError", "Parse Error") from None
    if not isinstance(value, dict):
        raise StorageError(400, "parseError", "Parse Error")
    return value


def answer(call: Call, value: Json, status: int = 200) -> Response:
    """JSON, and of it only the `fields` that were asked for."""
    fields = call.query.get("fields")
    return json_response(storage_fields.only(storage_fields.parse(fields), value) if fields else value, status)


def json_response(value: Json, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    return Response(json.dumps(value, indent=2), status, headers, "application/json; charset=UTF-8")
