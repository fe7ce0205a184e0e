"""The few calls that are made to Google, each with a deadline of ours and without a retry that hides time.

The stock clients' own: 15 s to create, no retry where it would help, and waiting for operations with up to a minute
between looks. Trying again is the controller's.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, TypeVar

import google.auth
from google.api_core.exceptions import AlreadyExists, GoogleAPICallError, NotFound
from google.auth.credentials import Credentials
from google.auth.exceptions import GoogleAuthError
from google.cloud import run_v2
from google.cloud.logging_v2.services.logging_service_v2 import LoggingServiceV2AsyncClient
from google.cloud.logging_v2.services.logging_service_v2.transports import LoggingServiceV2GrpcAsyncIOTransport
from google.cloud.logging_v2.types import ListLogEntriesRequest, LogEntry
from google.cloud.run_v2.services.revisions.transports import RevisionsGrpcAsyncIOTransport
from google.cloud.run_v2.services.services.transports import ServicesGrpcAsyncIOTransport

from cloud_manager.targets.calls import Told, counted, untold
from cloud_manager.targets.cloud_run_place import Place, region_in, short
from cloud_manager.targets.cloud_run_refusals import Caller, no_credentials, refusal
from cloud_manager.targets.docker_engine import to_the_end

T = TypeVar("T")
_SCOPE = "https://www.googleapis.com/auth/cloud-platform"
_READING, _CHANGING = 15.0, 30.0
"""Seconds for a call."""
_PAGE = 1000
_SEARCHES = 10
_CHANNEL = (("grpc.max_reconnect_backoff_ms", 5000),)
"""Else a network that was away for long would be noticed two minutes after its return."""


def credentials() -> Credentials:
    """Those of this process. Blocking: a file is read, or the machine's metadata server is asked.

    Raises:
        TargetError: there are none, or they cannot be read.
    """
    try:
        found, _ = google.auth.default(scopes=[_SCOPE])
    except GoogleAuthError as error:
        raise no_credentials(error) from error
    return found


class Cloud:
    """Made within an event loop, and closed in it."""

    def __init__(
        self, place: Place, own: Credentials, channel: Callable[..., Any] | None = None, told: Told = untold
    ) -> None:
        """channel: from a transport's class and what that gives its channel, to a channel; else to Google.

        told: hears of each call.
        """
        way, self._place, self._told = channel or _channel, place, told
        self._caller = Caller(place.project, _member(own))
        self._services = run_v2.ServicesAsyncClient(
            credentials=own, transport=_transport(ServicesGrpcAsyncIOTransport, way)
        )
        self._revisions = run_v2.RevisionsAsyncClient(
            credentials=own, transport=_transport(RevisionsGrpcAsyncIOTransport, way)
        )
        self._logging = LoggingServiceV2AsyncClient(
            credentials=own, transport=_transport(LoggingServiceV2GrpcAsyncIOTransport, way)
        )

    async def services(self, region: str) -> list[run_v2.Service]:
        """All of a region, ours and others'."""
        request = run_v2.ListServicesRequest(parent=self._place.parent(region), page_size=_PAGE)
        async with self._asked(f"list services in {region}"):
            pages = await self._services.list_services(request, retry=None, timeout=_READING)
            return [service async for service in pages]

    async def service(self, name: str) -> run_v2.Service | None:
        async with self._asked(f"get service {short(name)}"):
            try:
                return await self._services.get_service(name=name, retry=None, timeout=_READING)
            except NotFound:
                return None

    async def create(self, service: run_v2.Service) -> bool:
        """False if the name is taken. It is on its way when this returns."""
        name = service.name
        request = run_v2.CreateServiceRequest(
            parent=self._place.parent(region_in(name)), service=service, service_id=short(name)
        )
        async with self._asked(f"create service {short(name)}"):
            try:
                await to_the_end(self._services.create_service(request, retry=None, timeout=_CHANGING))
            except AlreadyExists:
                return False
            return True

    async def update(self, service: run_v2.Service) -> None:
        async with self._asked(f"update service {short(service.name)}"):
            await to_the_end(self._services.update_service(service=service, retry=None, timeout=_CHANGING))

    async def delete(self, name: str, etag: str) -> None:
        """What was seen with this etag. It goes on by itself; what is gone already is no error."""
        request = run_v2.DeleteServiceRequest(name=name, etag=etag)
        async with self._asked(f"delete service {short(name)}"):
            try:
                await to_the_end(self._services.delete_service(request, retry=None, timeout=_CHANGING))
            except NotFound:
                return

    async def revisions(self, service: str) -> list[run_v2.Revision]:
        request = run_v2.ListRevisionsRequest(parent=service, page_size=_PAGE)
        async with self._asked(f"list revisions of {short(service)}"):
            try:
                pages = await self._revisions.list_revisions(request, retry=None, timeout=_READING)
                return [revision async for revision in pages]
            except NotFound:
                return []

    async def entries(self, filter: str, *, newest: int) -> list[LogEntry]:
        """The newest that a filter means, at most so many (up to 1000), the oldest first."""
        request = ListLogEntriesRequest(
            resource_names=[f"projects/{self._place.project}"],
            filter=filter,
            order_by="timestamp desc",
            page_size=newest,
        )
        async with self._asked("list log entries"):
            pages = await self._logging.list_log_entries(request, retry=None, timeout=_READING)
            looked = 0
            async for page in pages.pages:
                looked += 1
                # An empty page is no end: "the search found no log entries so far, but it did not have time".
                if page.entries or looked == _SEARCHES:
                    return list(reversed(page.entries))
            return []

    async def aclose(self) -> None:
        clients: tuple[Any, ...] = (self._services, self._revisions, self._logging)
        await asyncio.gather(*(client.transport.close() for client in clients))

    @asynccontextmanager
    async def _asked(self, doing: str) -> AsyncIterator[None]:
        with counted(self._told, "google", " ".join(doing.split()[:2])):
            try:
                yield
            except GoogleAPICallError as error:
                raise refusal(error, doing, self._caller) from error
            except GoogleAuthError as error:
                raise no_credentials(error) from error


def _transport(kind: Any, channel: Callable[..., Any]) -> Callable[..., Any]:
    return partial(kind, channel=partial(channel, kind))


def _channel(kind: Any, *arguments: Any, options: Sequence[tuple[str, Any]] = (), **more: Any) -> Any:
    return kind.create_channel(*arguments, options=[*options, *_CHANNEL], **more)


def _member(own: Credentials) -> str:
    """As IAM writes it; empty where a credential does not say whose it is."""
    email = getattr(own, "service_account_email", "") or ""
    return f"serviceAccount:{email}" if "@" in email else ""
