"""What a crash can leave on the disk, and what is made of it."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
from pathlib import Path

import pytest

from image_builder.build_store import BuildStore, disk_error
from image_builder.contract import BuildState, BuildStatus, LayerProgress
from image_builder.errors import BuildError, DiskFull
from image_builder.event_log import EventLog, Note, Position
from image_builder.folder_lock import folder_lock
from tests.fakes.pipeline import request

ID = "0123456789abcdef" * 2


def status(build_id: str = ID) -> BuildStatus:
    return BuildStatus(id=build_id, state=BuildState.QUEUED, request=request(), created=1.0)


def progress(name: str, state: str, done: int = 0) -> Note:
    layer = LayerProgress.model_validate({"name": name, "kind": "wheel", "state": state, "done": done})
    return Note("layer", f"{name}: {state}", layer)


async def everything(log: EventLog, after: int = 0) -> list[tuple[int, str]]:
    position, found = Position(after), []
    while batch := await log.read(position):
        found += [(event.sequence, event.message) for event in batch]
    return found


def test_a_status_is_found_again(tmp_path: Path) -> None:
    """Otherwise a restart loses builds."""
    BuildStore(tmp_path / "builds").save(status())
    assert BuildStore(tmp_path / "builds").load(ID) == status()
    assert list(BuildStore(tmp_path / "builds").all()) == [status()]


@pytest.mark.parametrize("data", [b"", b'{"id": "0123', b"\x00" * 100, b"[]", b'{"id":1}'])
def test_a_torn_record_costs_itself_only(tmp_path: Path, data: bytes, caplog: pytest.LogCaptureFixture) -> None:
    """Otherwise one bad file keeps the builder from starting."""
    store = BuildStore(tmp_path)
    store.save(status())
    other = "f" * 32
    store.save(status(other))
    (tmp_path / ID / "status.json").write_bytes(data)
    assert [found.id for found in store.all()] == [other]
    assert ID in caplog.text
    store.save(status())
    assert store.load(ID) == status()


def test_what_a_kill_left_half_written_is_swept(tmp_path: Path) -> None:
    """Otherwise each crash takes a little of the disk for good."""
    store = BuildStore(tmp_path)
    store.save(status())
    (tmp_path / ID / ".partial-00").write_bytes(b"{")
    list(store.all())
    assert [path.name for path in (tmp_path / ID).iterdir()] == ["status.json"]


async def test_a_torn_last_event_is_cut(tmp_path: Path) -> None:
    """Otherwise the next event is glued to half a line, and both are lost."""
    log = EventLog.open(tmp_path / "events.jsonl")
    log.append(1.0, [Note("log", "one"), Note("log", "two")])
    whole = (tmp_path / "events.jsonl").read_bytes()
    for cut in range(1, len(whole.splitlines()[1]) + 1):
        (tmp_path / "events.jsonl").write_bytes(whole[:-cut])
        again = EventLog.open(tmp_path / "events.jsonl")
        assert again.last == 1
        again.append(2.0, [Note("log", "after")])
        assert await everything(again) == [(1, "one"), (2, "after")]


async def test_a_damaged_line_costs_itself_only(tmp_path: Path) -> None:
    """Otherwise a power cut takes the whole history with it."""
    path = tmp_path / "events.jsonl"
    EventLog.open(path).append(1.0, [Note("log", word) for word in ("one", "two", "three")])
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(lines[0] + b"\x00\x00\x00\n" + lines[2] + b"{}\n")
    assert await everything(EventLog.open(path)) == [(1, "one"), (3, "three")]


async def test_numbers_given_to_progress_are_not_given_again_after_a_crash(tmp_path: Path) -> None:
    """Otherwise a listener who resumes takes new events for old ones."""
    for spoken in (1, 5, 998, 999, 1000, 2500):
        path = tmp_path / f"{spoken}.jsonl"
        log = EventLog.open(path)
        log.append(1.0, [Note("log", "one")])
        for number in range(spoken):
            log.append(1.0, [progress("torch", "fetching", number)])
        highest = log.last
        again = EventLog.open(path)
        again.skip_unkept()
        again.append(2.0, [Note("log", "after")])
        assert again.last > highest
        assert (await everything(again, after=highest))[-1] == (again.last, "after")


async def test_only_the_newest_progress_is_held(tmp_path: Path) -> None:
    """Otherwise a slow listener makes the builder's memory grow with each byte downloaded."""
    log = EventLog.open(tmp_path / "events.jsonl")
    for number in range(100):
        log.append(1.0, [progress("torch", "fetching", number), progress("numpy", "fetching", number)])
    assert [number for number, _ in await everything(log)] == [199, 200]
    log.append(2.0, [progress("torch", "built"), Note("done", "succeeded")])
    assert await everything(log) == [(200, "numpy: fetching"), (201, "torch: built"), (202, "succeeded")][1:]


async def test_a_long_history_comes_in_pieces_and_whole(tmp_path: Path) -> None:
    """Otherwise a listener of a talkative build gets a hole, or the builder reads it all into memory at once."""
    log = EventLog.open(tmp_path / "events.jsonl")
    log.append(1.0, [Note("log", f"{number} " + "x" * 300) for number in range(3000)])
    position = Position(0)
    assert len(await log.read(position)) < 3000
    assert [number for number, _ in await everything(log)] == list(range(1, 3001))
    assert [number for number, _ in await everything(log, after=2990)] == list(range(2991, 3001))


async def test_a_listener_is_woken(tmp_path: Path) -> None:
    """Otherwise events show only when the next request comes."""
    log = EventLog.open(tmp_path / "events.jsonl")
    waiting = asyncio.create_task(log.news.wait())
    await asyncio.sleep(0)
    log.append(1.0, [Note("log", "one")])
    await asyncio.wait_for(waiting, 5)


async def test_a_disk_that_refuses_events_does_not_stop_a_build(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Otherwise a full disk kills the build through its log instead of being waited out."""
    log = EventLog.open(tmp_path / "gone" / "events.jsonl")
    log.append(1.0, [Note("log", "one")])
    assert "events lost" in caplog.text
    (tmp_path / "gone").mkdir()
    log.append(1.0, [Note("log", "two")])
    assert await everything(log) == [(2, "two")]


def test_a_full_disk_is_called_by_its_name() -> None:
    """Otherwise a person reads `OSError 28`."""
    error = disk_error(OSError(28, "No space left on device", "/state/builds"))
    assert isinstance(error, DiskFull)
    assert "/state/builds" in error.problem.cause


def hold(folder: Path, held: object, leave: object) -> None:
    with folder_lock(folder):
        held.set()  # type: ignore[attr-defined]
        leave.wait(30)  # type: ignore[attr-defined]


def test_a_second_builder_is_refused_until_the_first_is_dead(tmp_path: Path) -> None:
    """Otherwise two builders write the same builds."""
    context = multiprocessing.get_context("spawn")
    held, leave = context.Event(), context.Event()
    first = context.Process(target=hold, args=(tmp_path, held, leave))
    first.start()
    try:
        assert held.wait(30)
        with pytest.raises(BuildError, match=f"process {first.pid}") as refused, folder_lock(tmp_path):
            pass
        assert refused.value.problem.code == "folder_in_use"
    finally:
        first.kill()
        first.join()
    with folder_lock(tmp_path):
        assert (tmp_path / "lock").read_text() == f"{os.getpid()}\n"
