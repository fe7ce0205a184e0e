"""The stream over all projects: what a page that shows them all would miss."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import httpx
import pytest
from httpx_sse import ServerSentEvent, connect_sse

from cloud_manager.deployment import Key, Phase
from tests.cloud_manager.face import PROJECT, Face, served, until


@pytest.fixture
def face() -> Iterator[Face]:
    with served() as face:
        face.know(Phase.RUNNING)
        yield face


@contextmanager
def following(face: Face) -> Iterator[Iterator[ServerSentEvent]]:
    """What comes after `ready`."""
    with (
        httpx.Client(base_url=face.url, trust_env=False, timeout=10) as client,
        connect_sse(client, "GET", "/api/v1/changes/stream") as source,
    ):
        source.response.raise_for_status()
        events = (event for event in source.iter_sse() if event.data)
        assert next(events).event == "ready"
        yield events


def test_a_wish_is_told_with_its_last_event(face: Face) -> None:
    with following(face) as events:
        httpx.post(f"{face.url}/api/v1/deployments/7/43/start", trust_env=False).raise_for_status()
        changed = next(events)
        assert changed.event == "changed"
        row = changed.json()
        assert (row["user_id"], row["project_id"], row["phase"]) == ("7", "43", "started")
        assert row["last_event"]["message"].startswith("start asked for")


def test_what_was_there_before_is_not_told_again(face: Face) -> None:
    with following(face) as events:
        face.do(face.deployments.stop(PROJECT))
        assert next(events).json()["phase"] == "stopping"


def test_a_watcher_that_leaves_costs_nothing_more(face: Face) -> None:
    with following(face):
        assert len(face.parts.board.listeners) == 1
    until(lambda: not face.parts.board.listeners)


def test_the_list_has_each_projects_last_event(face: Face) -> None:
    face.do(face.deployments.start(Key("8", "1")))
    items = httpx.get(f"{face.url}/api/v1/deployments", trust_env=False).json()["items"]
    assert [item["last_event"]["kind"] for item in items] == ["start", "start"]


def test_a_row_is_not_told_with_an_event_of_a_newer_wish(face: Face) -> None:
    """Else a page would show `running` beside the stop that ended it."""

    async def overtaken() -> None:
        row = await face.store.get(PROJECT)
        assert row is not None
        face.board.put([replace(row, updated=row.updated + 1)])
        await face.store.want_absent(PROJECT, now=300.0)

    with following(face) as events:
        face.do(overtaken())
        face.do(face.deployments.start(Key("7", "43")))
        assert next(events).json()["project_id"] == "43"
