"""Streams of pages: several sources as one, and no end that hangs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

import pytest

from image_builder.web.live import Put, Refresh, Streams, encoded, merged

Changes = AsyncGenerator[Put | Refresh, None]


async def quick(closed: list[str]) -> Changes:
    try:
        for number in range(3):
            yield Put("a", str(number), "append")
        await asyncio.Event().wait()
    finally:
        closed.append("quick")


async def broken() -> Changes:
    await asyncio.sleep(0)
    raise RuntimeError("a source that fails")
    yield Refresh()


async def test_what_comes_from_any_source_comes_in_its_order() -> None:
    closed: list[str] = []
    both = merged(quick(closed), quick(closed))
    found = [await anext(both) for _ in range(6)]
    assert sorted(put.html for put in found if isinstance(put, Put)) == ["0", "0", "1", "1", "2", "2"]
    await both.aclose()
    assert closed == ["quick", "quick"], "a page that is left would be served for ever"


async def test_a_source_that_fails_ends_the_stream() -> None:
    """The browser connects anew then; a stream that hangs would look live and be dead."""
    with pytest.raises(RuntimeError, match="a source that fails"):
        async for _ in merged(quick([]), broken()):
            pass


async def test_a_server_that_stops_ends_every_stream() -> None:
    closed: list[str] = []
    streams = Streams()
    chunks = aiter(streams.respond(quick(closed)).body_iterator)
    first = [str(await anext(chunks)) for _ in range(2)]
    assert first == [": still here\n\n", encoded(Put("a", "0", "append"))]
    streams.close()
    async with asyncio.timeout(5):
        _ = [chunk async for chunk in chunks]
    assert closed == ["quick"]


async def test_silence_is_filled_so_that_no_proxy_closes_the_stream() -> None:
    async def silent() -> Changes:
        await asyncio.Event().wait()
        yield Refresh()

    streams = Streams(quiet=0.01)
    chunks = aiter(streams.respond(silent()).body_iterator)
    assert [await anext(chunks) for _ in range(3)] == [": still here\n\n"] * 3
    streams.close()
    _ = [chunk async for chunk in chunks]


def test_html_of_any_kind_is_one_line_of_the_stream() -> None:
    """A bare newline would end the event."""
    assert encoded(Put("a", "<p>\n\r\n한글</p>")).count("\n") == 3
