"""The log of a `local` service: bounded, whole lines, followed over the turn of a file."""

from __future__ import annotations

import asyncio
from collections import deque
from pathlib import Path

from cloud_manager.targets.local_log import KEPT, LogPosition, LogWriter, pump, read_log


async def lines(folder: Path, tail: int) -> list[str]:
    return [line async for line in read_log(folder, tail=tail, follow=False, sleep=asyncio.sleep)]


async def test_the_tail_reaches_back_over_turned_files(tmp_path: Path) -> None:
    log = LogWriter(tmp_path, limit=50)
    for number in range(20):
        log.write(b"line %02d" % number)
    log.close()
    assert await lines(tmp_path, 10) == [f"line {number:02}" for number in range(10, 20)]
    assert await lines(tmp_path, 0) == []
    assert len(list(tmp_path.iterdir())) == KEPT + 1
    assert all(path.stat().st_size <= 50 for path in tmp_path.iterdir())


async def test_a_follower_misses_no_line_when_files_turn(tmp_path: Path) -> None:
    log = LogWriter(tmp_path, limit=60)
    log.write(b"before")
    seen: list[str] = []
    following = read_log(tmp_path, tail=0, follow=True, sleep=lambda _: asyncio.sleep(0))

    async def follow() -> None:
        async for line in following:
            seen.append(line)
            if line == "line 29":
                return

    async def wait_for(count: int) -> None:
        while len(seen) < count:
            await asyncio.sleep(0.001)

    reading = asyncio.create_task(follow())
    while not seen:
        log.write(b"hello")
        await asyncio.sleep(0.01)
    seen.clear()
    for number in range(30):
        log.write(b"line %02d" % number)
        if number % 10 == 9:
            await asyncio.wait_for(wait_for(number), 10)
    await asyncio.wait_for(reading, 10)
    log.close()
    assert [line for line in seen if line != "hello"] == [f"line {number:02}" for number in range(30)]


async def test_a_log_may_be_followed_before_it_is_there(tmp_path: Path) -> None:
    position = LogPosition.end_of(tmp_path / "service.log")
    assert position.read() == []
    log = LogWriter(tmp_path)
    log.write(b"first")
    log.close()
    assert position.read() == ["first"]
    assert await lines(tmp_path / "nowhere", 5) == []


async def test_output_is_cut_into_lines_of_bounded_length(tmp_path: Path) -> None:
    """A program that writes without a newline must not fill the memory."""
    stream = asyncio.StreamReader(limit=2**20)
    stream.feed_data(b"one\ntw" + b"o\r\n\xff\n" + b"x" * 200_000 + b"\nlast")
    stream.feed_eof()
    log, keep = LogWriter(tmp_path), deque[str](maxlen=5)
    await pump(stream, log, keep)
    log.close()
    found = await lines(tmp_path, 100)
    assert found[:3] == ["one", "two", "�"]
    assert found[-1] == keep[-1] == "last"
    assert max(map(len, found)) <= 3 * 64 * 1024
