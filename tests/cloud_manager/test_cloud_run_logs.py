"""A service's log as a developer reads it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from google.cloud import run_v2
from google.cloud.logging_v2.types import LogEntry
from google.protobuf.json_format import MessageToDict

from cloud_manager.errors import Unavailable
from cloud_manager.targets.cloud_run_logs import read_log, text_of
from gcp_emulator.logging_filter import parse
from tests.cloud_manager.test_cloud_run_observation import PARENT, service

BEGIN = datetime(2026, 1, 1, tzinfo=UTC)


def entry(number: int, text: str, second: float, revision: str = "a-00001-abc", log: str = "stdout") -> LogEntry:
    labels = {"service_name": "a", "location": "us-central1", "revision_name": revision}
    return LogEntry(
        log_name=f"projects/p/logs/run.googleapis.com%2F{log}",
        insert_id=str(number),
        text_payload=text,
        timestamp=BEGIN + timedelta(seconds=second),
        resource={"type": "cloud_run_revision", "labels": labels},
    )


class Logging:
    """Cloud Logging, by the filters that the twin understands."""

    def __init__(self, *entries: LogEntry) -> None:
        self.all, self.asked, self.down = list(entries), 0, False

    async def entries(self, filter: str, *, newest: int) -> list[LogEntry]:
        self.asked += 1
        if self.down:
            self.down = False
            raise Unavailable("Google is away", "wait")
        judge = parse(filter)
        found = [one for one in self.all if judge(MessageToDict(LogEntry.pb(one)))]
        return sorted(found, key=lambda one: one.timestamp.timestamp())[-newest:]  # type: ignore[attr-defined]

    async def revisions(self, service: str) -> list[run_v2.Revision]:
        return [
            run_v2.Revision(name=f"{PARENT}/a/revisions/a-0000{number}-abc", labels={"cloud-deploy-revision": word})
            for number, word in ((1, "one"), (2, "two"))
        ]


class Turns:
    """A clock in whose every pause something happens."""

    def __init__(self, *turns: Any) -> None:
        self._turns = list(turns)

    def now(self) -> float:
        return 0.0

    async def sleep(self, seconds: float) -> None:
        if not self._turns:
            await asyncio.get_running_loop().create_future()
        self._turns.pop(0)()


async def services() -> Sequence[run_v2.Service]:
    return [service()]


async def read(cloud: Logging, *turns: Any, tail: int = 100, follow: bool = False, lines: int = 0) -> list[str]:
    found = []
    reading = read_log(cloud, services, Turns(*turns), "p", tail=tail, follow=follow)
    async with asyncio.timeout(10):
        async for line in reading:
            found.append(line)
            if follow and len(found) == lines:
                break
    await reading.aclose()
    return found


async def test_the_last_lines_with_a_title_for_each_revision() -> None:
    cloud = Logging(entry(1, "up", 1), entry(2, "oh", 2, log="stderr"), entry(3, "new", 3, "a-00002-abc"))
    whole = await read(cloud)
    assert whole == [
        "[cloud-deploy] revision one, a-00001-abc",
        "up",
        "oh",
        "[cloud-deploy] revision two, a-00002-abc",
        "new",
    ]
    assert await read(cloud, tail=2) == whole[-2:]
    assert await read(cloud, tail=0) == []


async def test_requests_and_others_logs_are_left_out() -> None:
    other = entry(9, "theirs", 1)
    other.resource.labels["service_name"] = "b"
    assert await read(Logging(entry(1, "GET /", 1, log="requests"), other)) == []


async def test_what_comes_is_followed_late_lines_too_and_nothing_twice() -> None:
    cloud = Logging(entry(1, "old", 1))
    turns = (
        lambda: cloud.all.append(entry(2, "new", 9)),
        lambda: setattr(cloud, "down", True),
        lambda: cloud.all.append(entry(3, "late", 5)),
        lambda: cloud.all.append(entry(4, "last", 30)),
    )
    lines = await read(cloud, *turns, tail=0, follow=True, lines=3)
    assert lines == ["new", "late", "last"]


async def test_a_structured_line_is_read_by_its_message() -> None:
    assert text_of(LogEntry(json_payload={"message": "hi", "x": 1})) == "hi"
    assert text_of(LogEntry(json_payload={"x": 1})) == '{"x": 1.0}'
