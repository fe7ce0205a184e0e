"""google.logging.v2.LoggingServiceV2, as much as it takes to read what services wrote.

https://github.com/googleapis/googleapis/blob/master/google/logging/v2/logging.proto
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
from collections.abc import Callable, Iterable
from typing import Any

from google.cloud.logging_v2 import types

from gcp_emulator.grpc_server import Method, Service
from gcp_emulator.logging_entries import Entry
from gcp_emulator.logging_filter import BadFilter, parse
from gcp_emulator.run_errors import Refused, denied

Entries = Callable[[], Iterable[Entry]]
_ORDERS = {"": False, "timestamp asc": False, "timestamp desc": True}
_USUAL_PAGE, _LARGEST_PAGE = 50, 1000


class Logging:
    def __init__(self, entries: Entries, projects: tuple[str, ...]) -> None:
        """`projects`: the one there is, by its id and by its number."""
        self._entries = entries
        self._projects = projects

    def service(self) -> Service:
        answer = Method(self.list_entries, types.ListLogEntriesRequest, types.ListLogEntriesResponse)
        return Service("google.logging.v2.LoggingServiceV2", {"ListLogEntries": answer})

    async def list_entries(self, request: Any) -> types.ListLogEntriesResponse:
        self._check_names(request.resource_names)
        if request.order_by not in _ORDERS:
            raise _invalid(f"Invalid order_by: {request.order_by}. It must be 'timestamp asc' or 'timestamp desc'.")
        if request.page_size < 0:
            raise _invalid("page_size must not be negative")
        try:
            wanted = parse(request.filter)
            found = await asyncio.to_thread(lambda: [one for one in self._entries() if wanted(one.shown)])
        except BadFilter as error:
            raise _invalid(str(error)) from error
        return _page(found, request)

    def _check_names(self, names: Iterable[str]) -> None:
        if not names:
            raise _invalid("At least one resource name must be specified")
        for name in names:
            parts = name.split("/")
            if parts[0] != "projects" or len(parts) not in (2, 8):
                raise _invalid(f"Invalid resource name: {name}. The twin knows projects/PROJECT.")
            if parts[1] not in self._projects:
                raise denied("logging.logEntries.list", name)


def _page(found: list[Entry], request: Any) -> types.ListLogEntriesResponse:
    backwards = _ORDERS[request.order_by]
    found.sort(key=lambda one: one.order, reverse=backwards)
    if request.page_token:
        last = _last(request.page_token)
        found = [one for one in found if (one.order < last if backwards else one.order > last)]
    size = min(request.page_size or _USUAL_PAGE, _LARGEST_PAGE)
    page = found[:size]
    more = base64.urlsafe_b64encode(json.dumps(page[-1].order).encode()).decode() if len(found) > size else ""
    return types.ListLogEntriesResponse(entries=[one.message for one in page], next_page_token=more)


def _last(token: str) -> tuple[float, str]:
    try:
        time, name = json.loads(base64.urlsafe_b64decode(token))
        return float(time), str(name)
    except (binascii.Error, ValueError, TypeError) as error:
        raise _invalid("page_token is invalid") from error


def _invalid(words: str) -> Refused:
    return Refused("INVALID_ARGUMENT", words)
