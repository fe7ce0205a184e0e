"""The relay that holds a service's port on a Docker Engine (`docker_front.py`), over real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import json
import resource
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from cloud_manager.targets.docker_front import Front
from tests import needs
from tests.conformance.harness import answer_of, until
from tests.parallel import free_port

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
pytestmark = pytest.mark.timeout(60)


def saying(word: str, status: int = 200) -> Handler:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            await reader.readuntil(b"\r\n\r\n")
            head = f"HTTP/1.1 {status} \r\nContent-Length: {len(word)}\r\nConnection: close\r\n\r\n"
            writer.write(f"{head}{word}".encode())
            await writer.drain()
        writer.close()

    return handle


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Whatever is asked, also the front's own question."""
    with contextlib.suppress(OSError):
        while data := await reader.read(1 << 16):
            writer.write(b"HTTP/1.1 200 OK\r\n\r\n" if data.startswith(b"GET /health") else data)
            await writer.drain()
    writer.close()


class Relay:
    """A front that serves in this process."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.port = folder, free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._attempts = 0

    def turn_to(self, port: int, **more: Any) -> None:
        """A new wish, as the manager puts it beside a front."""
        self._attempts += 1
        wish = {"attempt": str(self._attempts), "at": self._attempts, "revision": f"r{port}", "container": "c"}
        health = {"path": "/health", "startup": 30, "period": 0.2, "timeout": 2, "threshold": 2}
        wish |= {"settled": True, "host": "127.0.0.1", "port": port} | health | more
        (self.folder / "wish.json").write_text(json.dumps(wish))

    @property
    def state(self) -> dict[str, Any]:
        return dict(json.loads((self.folder / "state.json").read_text()))

    async def turned_to(self, port: int) -> None:
        async def there() -> bool:
            return self.state["active"] == ["127.0.0.1", port] and self.state["verdict"] == "ready"

        self.turn_to(port)
        await until(there, f"the front turns to {port}")

    async def is_(self, **wanted: str) -> None:
        async def so() -> bool:
            return all(self.state[name] == value for name, value in wanted.items())

        await until(so, str(wanted), seconds=20)

    @asynccontextmanager
    async def connected(self) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            yield reader, writer
        finally:
            writer.close()


@asynccontextmanager
async def served(handle: Handler) -> AsyncIterator[int]:
    """Port of a program."""
    async with await asyncio.start_server(handle, "127.0.0.1", 0, backlog=1024) as server:
        yield int(server.sockets[0].getsockname()[1])


@asynccontextmanager
async def running(relay: Relay) -> AsyncIterator[None]:
    serving = asyncio.create_task(Front(relay.folder).serve(relay.port))

    async def told() -> bool:
        return (relay.folder / "state.json").exists()

    await until(told, "the front tells")
    try:
        yield
    finally:
        serving.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await serving


@pytest.fixture
async def relay(tmp_path: Path) -> AsyncIterator[Relay]:
    made = Relay(tmp_path)
    async with running(made):
        yield made


async def test_it_turns_between_two_connections(relay: Relay) -> None:
    """An update may neither lose a request nor cut one off that takes long."""
    async with served(echo) as old, served(saying("new")) as new:
        await relay.turned_to(old)
        async with relay.connected() as (reader, writer):
            writer.write(b"before")
            assert await reader.readexactly(6) == b"before"
            await relay.turned_to(new)
            assert await answer_of(relay.url) == "new"
            assert relay.state["open"] == {"127.0.0.1": 1}, "the manager waits for it before it ends the old program"
            writer.write(b"after")
            assert await reader.readexactly(5) == b"after"


async def test_one_that_never_answers_is_not_turned_to(relay: Relay) -> None:
    """A slip in a line must not take a running service down."""
    async with served(saying("old")) as old, served(saying("broken", 500)) as bad:
        await relay.turned_to(old)
        relay.turn_to(bad, startup=0.5)
        await relay.is_(verdict="failed", reason="does not answer with 2xx-4xx")
        assert await answer_of(relay.url) == "old"
        relay.turn_to(free_port(), startup=0.5)
        await relay.is_(verdict="failed", reason="does not listen")
        assert await answer_of(relay.url) == "old"


async def test_one_that_dies_is_told_and_so_is_its_return(relay: Relay) -> None:
    """Else `running` would be said of what is dead."""
    async with served(saying("one")) as port:
        await relay.turned_to(port)
        await relay.is_(health="healthy")
    await relay.is_(health="down", reason="does not listen")
    assert await answer_of(relay.url) is None
    async with await asyncio.start_server(saying("again"), "127.0.0.1", port):
        await relay.is_(health="healthy", reason="")
        assert await answer_of(relay.url) == "again"


async def test_one_that_is_stuck_is_told(relay: Relay) -> None:
    stuck = asyncio.Event()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if stuck.is_set():
            await reader.read()
        else:
            await saying("well")(reader, writer)
        writer.close()

    async with served(handle) as port:
        await relay.turned_to(port)
        stuck.set()
        relay.turn_to(port, attempt="1", timeout=0.2)
        await relay.is_(health="unhealthy", reason="does not answer")


async def test_a_front_that_is_started_anew_serves_at_once_and_says_nothing_rash(tmp_path: Path) -> None:
    """After the Engine's death: whom it served is known; that he is well, only once he has answered."""
    relay = Relay(tmp_path)
    async with served(saying("one")) as port, running(relay):
        await relay.turned_to(port)
    async with running(relay):
        await relay.is_(verdict="ready", health="down")
        async with await asyncio.start_server(saying("one"), "127.0.0.1", port):
            assert await answer_of(relay.url) == "one"
            await relay.is_(health="healthy")


async def test_before_the_first_program_nobody_is_kept_waiting(relay: Relay) -> None:
    async with relay.connected() as (reader, _):
        assert await asyncio.wait_for(reader.read(), 5) == b""


async def test_a_half_closed_connection_gets_its_answer(relay: Relay) -> None:
    """Clients that say that they have said all (`nc -N`, shutdown) still listen."""

    async def after_all(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        said = await reader.read(7) if (first := await reader.read(1)) == b"G" else first + await reader.read()
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n" if first == b"G" else f"{len(said)} bytes".encode())
        writer.close()

    async with served(after_all) as port:
        await relay.turned_to(port)
        async with relay.connected() as (reader, writer):
            writer.write(b"x" * 1000)
            writer.write_eof()
            assert await reader.read() == b"1000 bytes"


async def test_what_breaks_on_one_side_is_closed_on_the_other(relay: Relay) -> None:
    """Else connections of the dead would add up until none is left."""
    gone = asyncio.Event()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not (await reader.read(4)).startswith(b"hang"):
            writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        else:
            with contextlib.suppress(OSError):
                await reader.read()
            gone.set()
        writer.close()

    async with served(handle) as port:
        await relay.turned_to(port)
        async with relay.connected() as (_, writer):
            writer.write(b"hang")
            await until(lambda: _later(relay.state["open"] == {"127.0.0.1": 1}), "it is counted")
            linger = b"\x01\0\0\0\0\0\0\0"  # on, 0 s: a reset
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        await asyncio.wait_for(gone.wait(), 10)
        await until(lambda: _later(relay.state["open"] == {}), "it is counted no more")


async def test_one_who_reads_slowly_holds_up_nobody_and_fills_no_memory(relay: Relay) -> None:
    """256 MiB is all that a front has: what a client does not take must wait at the program."""
    sent = 0

    async def flood(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        if (await reader.readline()).startswith(b"GET /health"):
            writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        else:
            with contextlib.suppress(OSError):
                for _ in range(2000):
                    writer.write(b"x" * (1 << 16))
                    await writer.drain()
                    sent += 1 << 16
        writer.close()

    async with served(flood) as port:
        await relay.turned_to(port)
        async with relay.connected() as (reader, writer):
            writer.write(b"flood\n")
            last = -1

            async def held_up() -> bool:
                nonlocal last
                before, last = last, sent
                await asyncio.sleep(0.2)
                return sent == last == before and sent > 0

            await until(held_up, "the program is held up")
            assert sent < 32 << 20, "what the system's own buffers take, of 125 MiB"
            async with relay.connected() as (other, ask):
                ask.write(b"GET /health\r\n")
                assert (await asyncio.wait_for(other.read(), 5)).startswith(b"HTTP/1.1 200")
            total = 0
            while data := await reader.read(1 << 20):
                total += len(data)
            assert total == 2000 << 16


async def test_a_websocket_is_bytes_that_go_both_ways(relay: Relay) -> None:
    async with served(echo) as port:
        await relay.turned_to(port)
        async with relay.connected() as (reader, writer):
            writer.write(b"GET /chat HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
            await reader.readuntil(b"\r\n\r\n")
            for number in range(20):
                frame = bytes([0x82, 4]) + number.to_bytes(4, "big")
                writer.write(frame)
                assert await asyncio.wait_for(reader.readexactly(6), 5) == frame, "each at once, none waits for more"


async def test_a_stream_comes_piece_by_piece(relay: Relay) -> None:
    """Server-sent events: the next piece is only made when the client has seen the last one."""
    seen = asyncio.Event()

    async def stream(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked = await reader.readline()
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        for number in range(0 if b"/health" in asked else 5):
            writer.write(f"data: {number}\n\n".encode())
            await writer.drain()
            await asyncio.wait_for(seen.wait(), 5)
            seen.clear()
        writer.close()

    async with served(stream) as port:
        await relay.turned_to(port)
        async with relay.connected() as (reader, writer):
            writer.write(b"GET /events HTTP/1.1\r\n\r\n")
            for number in range(5):
                assert (await reader.readuntil(b"\n\n")).endswith(f"data: {number}\n\n".encode())
                seen.set()


async def test_a_thousand_clients_at_once(relay: Relay) -> None:
    """All are let in, each gets his own answer, and all are forgotten when they have left."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < 8192:
        needs.missing(f"{hard} open files are too few for a thousand connections")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 8192), hard))

    async def client(number: int, all_in: asyncio.Barrier) -> bytes:
        async with relay.connected() as (reader, writer):
            await all_in.wait()
            writer.write(number.to_bytes(4, "big"))
            return await reader.readexactly(4)

    try:
        async with served(echo) as port:
            await relay.turned_to(port)
            together = asyncio.Barrier(1000)
            answers = await asyncio.gather(*(client(number, together) for number in range(1000)))
            assert answers == [number.to_bytes(4, "big") for number in range(1000)]
            await until(lambda: _later(relay.state["open"] == {}), "all are forgotten")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def _later(value: bool) -> bool:
    return value
