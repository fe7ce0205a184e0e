"""Cloud Logging: what services wrote is found by Google's own client, as its query language asks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from google.api_core import exceptions
from google.cloud.logging_v2.types import ListLogEntriesRequest, LogEntry
from hypothesis import given
from hypothesis import strategies as some

from gcp_emulator.logging_filter import BadFilter, parse
from tests.gcp_emulator.build_stock import PROJECT, Stock, stock

ROW: dict[str, Any] = {
    "resource": {"type": "cloud_run_revision", "labels": {"service_name": "hello", "location": "us-central1"}},
    "timestamp": "2026-01-31T10:00:00.123456Z",
    "severity": "WARNING",
    "textPayload": "it is Running low",
    "jsonPayload": {"count": 12.0, "ok": True, "a.b": "dotted"},
    "tags": ["one", "two"],
}
TRUE = [
    "",
    'resource.type="cloud_run_revision" AND resource.labels.service_name="hello"',
    'resource.type = cloud_run_revision resource.labels.service_name != "other"',
    'timestamp>="2026-01-31T10:00:00Z" timestamp<"2026-01-31T11:00:00+01:00" OR severity=WARNING',
    "severity>=INFO severity<ERROR",
    "severity=(ERROR OR WARNING)",
    'textPayload:"running" AND text_payload=~"Run+ing"',
    "NOT textPayload:stopped -textPayload:stopped",
    'jsonPayload.count>9 jsonPayload.ok=true jsonPayload."a.b"=dotted',
    "severity=ERROR OR severity=WARNING AND tags:two",
    "(severity=ERROR AND severity=WARNING) OR tags=one",
    "trace!=x NOT trace:*  -- a remark",
    '"running low"',
]
FALSE = [
    'resource.labels.service_name="hell"',
    'timestamp>"2026-01-31T10:00:01Z"',
    "severity>WARNING",
    "trace:*",
    "severity=ERROR OR severity=INFO AND tags:two",
    'textPayload!~"low$"',
    "jsonPayload.count<9",
    "NOT (tags=one OR tags=two)",
]
BAD = ["severity=", "(a=b", "a=b)", "=b", "AND", 'a="b', "timestamp>yesterday", 'a=~"("', "NOT"]


def test_a_filter_means_what_google_says() -> None:
    assert [text for text in TRUE if not parse(text)(ROW)] == []
    assert [text for text in FALSE if parse(text)(ROW)] == []


@pytest.mark.parametrize("text", BAD)
def test_a_filter_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(BadFilter):
        parse(text)(ROW)


@given(some.text(alphabet='ab.=<>!~:()"\\ -ANDORT\n', max_size=40))
def test_no_text_breaks_the_reader(text: str) -> None:
    try:
        parse(text)(ROW)
    except BadFilter as refused:
        assert str(refused)


def _write(twin: Stock, revision: str, *lines: tuple[float, str, str]) -> None:
    folder = twin.twin.settings.state / "run" / "logs"
    folder.mkdir(parents=True, exist_ok=True)
    rows = [json.dumps({"time": time, "stream": stream, "text": text}) for time, stream, text in lines]
    (folder / f"{revision}.jsonl").write_text("\n".join(rows) + '\n{"time": 9, "str')


async def _read(twin: Stock, text: str = "", **more: Any) -> list[LogEntry]:
    request = ListLogEntriesRequest(resource_names=[f"projects/{PROJECT}"], filter=text, **more)
    return [one async for one in await twin.logging.list_log_entries(request)]


async def test_what_a_service_wrote_is_read_in_order_and_in_pages(tmp_path: Path) -> None:
    async with stock(tmp_path) as twin:
        assert await _read(twin) == []
        rows = [(1000.0 + count, "stdout", f"line {count}") for count in range(5)]
        _write(twin, "hello-00001-abc", *rows)
        failed = json.dumps({"severity": "error", "message": "no weights", "code": 3})
        _write(twin, "other-00001-abc", (1002.5, "stderr", failed), (1003.5, "stdout", "[1]"))
        mine = 'resource.type="cloud_run_revision" AND resource.labels.service_name="hello"'
        assert [one.text_payload for one in await _read(twin, mine, page_size=2)] == [f"line {n}" for n in range(5)]
        late = await _read(twin, f'{mine} timestamp>"1970-01-01T00:16:42Z"', order_by="timestamp desc", page_size=1)
        assert [one.text_payload for one in late] == ["line 4", "line 3"]
        (error,) = await _read(twin, "severity>=ERROR")
        assert dict(error.json_payload) == {"message": "no weights", "code": 3.0}
        assert error.log_name == f"projects/{PROJECT}/logs/run.googleapis.com%2Fstderr"
        assert len({one.insert_id for one in await _read(twin)}) == 7


async def test_a_question_that_is_none_is_refused(tmp_path: Path) -> None:
    async with stock(tmp_path) as twin:
        for wrong in ({"text": "severity="}, {"order_by": "severity"}, {"page_size": -1}, {"page_token": "x"}):
            with pytest.raises(exceptions.InvalidArgument):
                await _read(twin, **wrong)
        with pytest.raises(exceptions.PermissionDenied):
            await twin.logging.list_log_entries(ListLogEntriesRequest(resource_names=["projects/somebody-else"]))
