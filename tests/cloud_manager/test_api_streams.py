"""Server-sent events as a terminal or a browser follows them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import pytest
from httpx_sse import ServerSentEvent, connect_sse

from cloud_manager.deployment import Phase
from cloud_manager.errors import BuilderUnavailable, Unavailable
from cloud_manager.store.protocol import NewEvent
from image_builder.contract import BuildEvent
from tests.cloud_manager.face import PROJECT, Face, served, until

ONE = "/api/v1/deployments/7/42"


@pytest.fixture
def face() -> Iterator[Face]:
    with served() as face:
        face.know(Phase.RUNNING)
        yield face


@contextmanager
def following(face: Face, path: str, **headers: str) -> Iterator[Iterator[ServerSentEvent]]:
    with (
        httpx.Client(base_url=face.url, trust_env=False, timeout=10) as client,
        connect_sse(client, "GET", ONE + path, headers=headers) as source,
    ):
        source.response.raise_for_status()
        yield source.iter_sse()


def write(face: Face, message: str) -> None:
    face.do(face.store.add_events(PROJECT, 1, [NewEvent("note", message)], now=200.0))


def test_history_comes_first_and_then_what_happens(face: Face) -> None:
    write(face, "before")
    with following(face, "/events/stream") as events:
        assert [next(events).json()["kind"], next(events).json()["message"]] == ["start", "before"]
        write(face, "meanwhile")
        live = next(events)
        assert (live.json()["message"], live.id) == ("meanwhile", str(live.json()["sequence"]))


def test_a_client_that_comes_back_misses_nothing_and_sees_nothing_twice(face: Face) -> None:
    for message in ("one", "two", "three"):
        write(face, message)
    with following(face, "/events/stream") as events:
        seen = [next(events), next(events)]
    with following(face, "/events/stream", **{"Last-Event-ID": seen[-1].id}) as events:
        assert [next(events).json()["message"], next(events).json()["message"]] == ["two", "three"]
    with following(face, f"/events/stream?after={seen[-1].id}") as events:
        assert next(events).json()["message"] == "two"


@pytest.mark.parametrize("place", ["x", "-1", "\u0667", "9" * 30])
def test_a_strange_place_to_resume_is_refused(face: Face, place: str) -> None:
    answer = httpx.get(f"{face.url}{ONE}/events/stream", headers={"Last-Event-ID": place.encode()})
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "bad_request")


def test_many_watchers_of_a_project_share_one_look_at_the_store(face: Face) -> None:
    """Else a hundred open terminals would be two hundred queries a second."""
    with following(face, "/events/stream") as one, following(face, "/events/stream") as two:
        assert next(one).id == next(two).id
        until(lambda: len(face.parts.feed.waiting) == 1 and sum(face.parts.feed.waiting.values()) == 2)
        write(face, "for both")
        assert next(one).json()["message"] == next(two).json()["message"] == "for both"
    until(lambda: not face.parts.feed.waiting)


def test_silence_is_kept_alive(face: Face) -> None:
    """Proxies cut connections on which nothing is said."""
    with httpx.stream("GET", f"{face.url}{ONE}/events/stream", timeout=10) as response:
        lines = response.iter_lines()
        assert sum(1 for _, line in zip(range(20), lines, strict=False) if line == ": keep-alive") > 3


def test_logs_are_followed(face: Face) -> None:
    with following(face, "/logs/stream?tail=1") as lines:
        assert next(lines).data == "GET / 200"
        face.do(face.targets.target.more.put("a new line"))
        assert next(lines).data == "a new line"


def test_the_build_is_relayed_until_it_is_done(face: Face) -> None:
    face.know(Phase.BUILDING, build_id="b" * 32)
    face.builder.history = [
        BuildEvent(sequence=1, time=1.0, kind="step", message="resolve"),
        BuildEvent(sequence=2, time=2.0, kind="log", message="line\r\nbreak"),
        BuildEvent(sequence=3, time=3.0, kind="done", message="succeeded"),
    ]
    with following(face, "/build/stream", **{"Last-Event-ID": "1"}) as events:
        rest = list(events)
    assert [(event.event, event.id) for event in rest] == [("log", "2"), ("done", "3")]
    assert BuildEvent.model_validate_json(rest[0].data) == face.builder.history[1]


def test_a_terminal_may_follow_a_build_before_it_has_begun(face: Face) -> None:
    face.know(Phase.STARTED)
    face.builder.history = [BuildEvent(sequence=1, time=1.0, kind="done", message="succeeded")]
    with following(face, "/build/stream") as events:
        face.know(Phase.BUILDING, build_id="b" * 32)
        assert next(events).event == "done"


def test_a_project_at_rest_without_a_build_has_none_to_follow(face: Face) -> None:
    answer = httpx.get(f"{face.url}{ONE}/build/stream")
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "not_found")


def test_a_stream_that_cannot_go_on_says_why(face: Face) -> None:
    face.know(Phase.BUILDING, build_id="b" * 32)
    face.builder.error = BuilderUnavailable("the image builder at x does not answer", "start it")
    with following(face, "/build/stream") as events:
        last = list(events)[-1]
    assert (last.event, last.json()["code"]) == ("problem", "builder_unavailable")


def test_a_database_that_goes_away_is_told_in_the_stream(face: Face) -> None:
    with following(face, "/events/stream") as events:
        next(events)
        face.store.failing = Unavailable("the database at x does not answer", "start it")
        last = list(events)[-1]
        face.store.failing = None
    assert (last.event, last.json()["code"]) == ("problem", "unavailable")


def test_open_streams_do_not_hold_up_a_stop(face: Face) -> None:
    with following(face, "/events/stream") as events, following(face, "/logs/stream?tail=1") as lines:
        assert (next(events).json()["kind"], next(lines).data) == ("start", "GET / 200")
        face.stop()  # Asserts that it ended in 10 s.
        assert list(events) == []
