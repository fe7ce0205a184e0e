"""What pages decide before they show anything."""

from __future__ import annotations

import pytest
from starlette.datastructures import Headers

from image_builder.web.deployments_order import PAGE, Wanted, view
from image_builder.web.humane import ago_words, size
from image_builder.web.manager_models import Deployment, Event, Phase
from image_builder.web.preferences import local_path
from image_builder.web.protection import is_own_host, is_same_origin
from image_builder.web.timeline import chapters
from image_builder.web.words import read_words


def deployment(project: str, phase: str = "running", *, at: float = 0.0) -> Deployment:
    event = Event(sequence=1, time=at, generation=1, kind="note", message="")
    return Deployment(
        user_id="7",
        project_id=project,
        phase=Phase(phase),
        generation=2,
        created=0,
        updated=99,
        last_event=event,
        url=f"http://h/{project}",
    )


def test_what_needs_somebody_comes_first_and_then_the_latest() -> None:
    rows = [
        deployment("old", at=1),
        deployment("new", at=9),
        deployment("gone", "stopped", at=50),
        deployment("busy", "building", at=2),
        deployment("bad", "failed", at=1),
    ]
    found = view(rows, Wanted())
    assert [row.project_id for row in found.rows] == ["bad", "busy", "new", "old", "gone"]
    assert found.counts == {"": 5, "failed": 1, "working": 1, "running": 2, "stopped": 1}


def test_pages_follow_each_other_though_rows_move_meanwhile() -> None:
    """By place, not by number: a row that comes on top does not push another one out of sight."""
    rows = [deployment(f"p{number}", at=float(number)) for number in range(2 * PAGE + 10)]
    seen = list((first := view(rows, Wanted())).rows)
    rows.append(deployment("late", at=10_000.0))
    more = first.more
    while more:
        page = view(rows, Wanted(), more)
        seen += page.rows
        more = page.more
    assert sorted(row.project_id for row in seen) == sorted(row.project_id for row in rows if row.project_id != "late")
    assert view(rows, Wanted(), "nonsense").rows[0].project_id == "late"


def test_a_search_counts_what_it_finds() -> None:
    rows = [deployment("alpha"), deployment("beta", "failed")]
    found = view(rows, Wanted("running", "ALPHA 7/"))
    assert [row.project_id for row in found.rows] == ["alpha"]
    assert found.counts[""] == 1 and found.counts["failed"] == 0
    assert view(rows, Wanted("", "nobody")).rows == ()


def event(sequence: int, time: float, kind: str, generation: int = 1) -> Event:
    return Event(sequence=sequence, time=time, generation=generation, kind=kind, message=kind)


def test_a_history_is_steps_with_durations_the_latest_wish_first() -> None:
    events = [
        event(1, 0.0, "start"),
        event(2, 0.1, "note"),
        event(3, 1.0, "build"),
        event(4, 4.0, "build"),
        event(5, 5.0, "target"),
        event(6, 7.5, "phase"),
        event(7, 90.0, "stop", 2),
        event(8, 90.5, "target", 2),
        event(9, 92.0, "phase", 2),
    ]
    stop, start = chapters(events, deployment("x", "stopped"))
    assert [(step.name, step.seconds) for step in start.steps] == [
        ("asked", 1.0),
        ("image", 4.0),
        ("service", 2.5),
        ("running", None),
    ]
    assert [(step.name, step.state) for step in stop.steps] == [
        ("asked", "done"),
        ("removing", "done"),
        ("stopped", "done"),
    ]


def test_what_goes_on_is_active_and_what_failed_says_where() -> None:
    events = [event(1, 0.0, "start"), event(2, 1.0, "build")]
    (now,) = chapters(events, deployment("x", "building"))
    assert [step.state for step in now.steps] == ["done", "active"]
    (failed,) = chapters([*events, event(3, 3.0, "error")], deployment("x", "failed"))
    assert [(step.name, step.state, step.seconds) for step in failed.steps][-1] == ("image", "failed", 2.0)
    assert failed.failed and not now.failed


@pytest.mark.parametrize(
    ("host", "own"),
    [
        ("127.0.0.1:8080", True),
        ("[::1]:8080", True),
        ("192.168.0.7", True),
        ("localhost:8080", True),
        ("image-builder:8080", True),
        ("gui.localhost", True),
        ("deploy.example.com", True),
        ("evil.example.org:8080", False),
        ("127.0.0.1.nip.example", False),
        ("", False),
    ],
)
def test_a_strangers_name_for_this_address_is_refused(host: str, own: bool) -> None:
    """Else his page could read, and press the buttons, from a visitor's browser."""
    assert is_own_host(host, ("deploy.example.com",)) is own


@pytest.mark.parametrize(
    ("headers", "same"),
    [
        ({"sec-fetch-site": "same-origin"}, True),
        ({"sec-fetch-site": "cross-site", "origin": "http://127.0.0.1:8080"}, False),
        ({"sec-fetch-site": "none"}, False),
        ({"origin": "http://127.0.0.1:8080"}, True),
        ({"origin": "http://127.0.0.1:9000"}, False),
        ({"origin": "null"}, False),
        ({}, True),
    ],
)
def test_only_our_own_pages_may_act(headers: dict[str, str], same: bool) -> None:
    assert is_same_origin(Headers({"host": "127.0.0.1:8080", **headers})) is same


@pytest.mark.parametrize("address", ["//evil.example", "https://evil.example", "/\\evil.example", "javascript:x", ""])
def test_no_form_leads_to_another_host(address: str) -> None:
    assert local_path(address) == "/"
    assert local_path("/deployments/7/42?x=1") == "/deployments/7/42?x=1"


@pytest.mark.parametrize(
    ("seconds", "en", "ko"),
    [
        (-5, "just now", "방금"),
        (9.9, "just now", "방금"),
        (59, "59 s ago", "59초 전"),
        (3599, "59 min ago", "59분 전"),
        (86_400, "1 day ago", "1일 전"),
        (200_000, "2 days ago", "2일 전"),
    ],
)
def test_times_as_people_say_them(seconds: float, en: str, ko: str) -> None:
    words = read_words()
    assert ago_words(lambda key, **values: words.say("en", key, **values), seconds) == en
    assert ago_words(lambda key, **values: words.say("ko", key, **values), seconds) == ko


@pytest.mark.parametrize(
    ("count", "said"), [(0, "0 B"), (999, "999 B"), (1500, "1.5 kB"), (48_210_334, "48.2 MB"), (2e11, "200 GB")]
)
def test_sizes_as_people_say_them(count: float, said: str) -> None:
    assert size(count) == said
