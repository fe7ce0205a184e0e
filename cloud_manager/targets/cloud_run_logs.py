"""The log of a project as Cloud Logging has it, followed over revisions.

https://cloud.google.com/run/docs/logging, https://cloud.google.com/logging/docs/view/logging-query-language
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

from google.cloud import run_v2
from google.cloud.logging_v2.types import LogEntry

from cloud_manager.clock import Clock
from cloud_manager.errors import DeployError
from cloud_manager.targets.cloud_run_place import region_in, short
from cloud_manager.targets.cloud_run_spec import REVISION

_LOOK = 2.0
"""Seconds between looks for new lines: a project may ask 60 times a minute, https://cloud.google.com/logging/quotas"""
_LATE = timedelta(seconds=10)
_MOST = 1000
_LINES = ("stdout", "stderr", "varlog%2Fsystem")
Services = Callable[[], Awaitable[Sequence[run_v2.Service]]]


class Logging(Protocol):
    """`cloud_run_cloud.Cloud`, as far as it matters here."""

    async def entries(self, filter: str, *, newest: int) -> list[LogEntry]: ...

    async def revisions(self, service: str) -> list[run_v2.Revision]: ...


async def read_log(  # noqa: PLR0913 - what it reads, and how much of it
    cloud: Logging, services: Services, clock: Clock, project: str, *, tail: int, follow: bool
) -> AsyncGenerator[str, None]:
    """The last `tail` lines, the oldest first; then, if `follow`, new ones for ever."""
    reader = _Reader(cloud, services, project)
    first = await reader.new(_MOST if follow else max(1, min(tail, _MOST)))
    for line in deque(first, maxlen=max(0, tail)):
        yield line
    while follow:
        await clock.sleep(_LOOK)
        try:
            lines = await reader.new(_MOST)
        except DeployError as error:
            if not error.problem.retryable:
                raise
            continue  # Google is away for a moment: what was written meanwhile comes with the next look
        for line in lines:
            yield line


async def last_words(cloud: Logging, service: run_v2.Service, project: str, count: int) -> list[str]:
    """Of a service's newest revision."""
    revision = short(service.latest_created_revision)
    wanted = f'{_meant([service.name], project)} AND resource.labels.revision_name="{revision}"'
    return [line for entry in await cloud.entries(wanted, newest=count) if (line := text_of(entry).strip())]


class _Reader:
    def __init__(self, cloud: Logging, services: Services, project: str) -> None:
        self._cloud = cloud
        self._services = services
        self._project = project
        self._titles: dict[str, str] = {}
        self._said: set[str] = set()
        self._seen: dict[str, datetime] = {}

    async def new(self, most: int) -> list[str]:
        """What has come since, with a title before a revision's first line."""
        names = [service.name for service in await self._services()]
        if not names:
            return []
        found = await self._cloud.entries(_meant(names, self._project) + self._since(), newest=most)
        entries = [entry for entry in found if entry.insert_id not in self._seen]
        self._seen |= {entry.insert_id: _moment(entry) for entry in entries}
        return [line for entry in entries for line in await self._lines(entry, names)]

    def _since(self) -> str:
        """Some lines come late, so those of a while before are asked for again; older ones need not be remembered."""
        if not self._seen:
            return ""
        since = max(self._seen.values()) - _LATE
        self._seen = {entry: moment for entry, moment in self._seen.items() if moment >= since}
        return f' AND timestamp>="{since.isoformat()}"'

    async def _lines(self, entry: LogEntry, names: Sequence[str]) -> list[str]:
        revision = entry.resource.labels.get("revision_name", "")
        if revision in self._said:
            return [text_of(entry)]
        self._said.add(revision)
        if revision not in self._titles:
            for name in names:
                rows = await self._cloud.revisions(name)
                self._titles |= {short(row.name): row.labels.get(REVISION, "?") for row in rows}
        ours = self._titles.get(revision, "?")
        return [f"[cloud-deploy] revision {ours}, {revision}", text_of(entry)]


def _meant(names: Sequence[str], project: str) -> str:
    """Lines of programs and what Cloud Run says of them, without its records of requests."""
    rows = " OR ".join(
        f'(resource.labels.service_name="{short(name)}" AND resource.labels.location="{region_in(name)}")'
        for name in names
    )
    logs = " OR ".join(f'"projects/{project}/logs/run.googleapis.com%2F{log}"' for log in _LINES)
    return f'resource.type="cloud_run_revision" AND ({rows}) AND logName=({logs})'


def text_of(entry: LogEntry) -> str:
    """A structured line by its message."""
    if "text_payload" in entry:
        return str(entry.text_payload)
    if "json_payload" in entry:
        data = dict(entry.json_payload)
        return str(data["message"]) if "message" in data else json.dumps(data, default=str, ensure_ascii=False)
    return str(entry.severity.name)


def _moment(entry: LogEntry) -> datetime:
    moment: Any = entry.timestamp  # proto-plus gives a datetime
    return datetime.fromtimestamp(moment.timestamp(), UTC)
