"""What is sent to the manager is bounded in size and time, whoever sends it."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator

import httpx
import pytest
from fastapi import FastAPI, Request

from image_builder.edge.body_limit import BodyLimit
from image_builder.edge.connection import Connection
from tests.cloud_manager.face import Face, served, until

ACT = "/api/v1/deployments/7/42/stop"


@pytest.fixture(scope="module")
def face() -> Iterator[Face]:
    with served() as face:
        yield face


def sent(face: Face, *pieces: bytes) -> bytes:
    """What is answered before the connection is closed, or before it is silent for long."""
    with socket.create_connection(face.listener.getsockname()[:2], timeout=5) as connection:
        answer = b""
        try:
            for piece in pieces:
                connection.sendall(piece)
            while chunk := connection.recv(65536):
                answer += chunk
        except (BrokenPipeError, ConnectionResetError, TimeoutError):
            return answer
        return answer


def test_a_head_without_end_is_cut_off(face: Face) -> None:
    """Else one connection fills the memory of the manager."""
    answer = sent(face, b"GET / HTTP/1.1\r\nHost: x\r\nX-Long: ", *[b"a" * 8192] * 40)
    assert answer.startswith(b"HTTP/1.1 431 ")


def test_many_headers_are_cut_off(face: Face) -> None:
    answer = sent(face, b"GET / HTTP/1.1\r\nHost: x\r\n", *[b"X-More: " + b"a" * 4000 + b"\r\n"] * 60)
    assert answer.startswith(b"HTTP/1.1 431 ")


def test_usual_heads_in_pieces_are_taken(face: Face) -> None:
    """A proxy may send a head in as many pieces as it likes."""
    answer = sent(face, b"GET /hea", b"lthz HTTP/1.1\r\nHo", b"st: x\r\nConnection: close", b"\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 200 ")


def test_a_body_without_end_is_cut_off(face: Face) -> None:
    """In chunks, without a length that could be looked at first."""
    head = b"POST %s HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" % ACT.encode()
    answer = sent(face, head, *[b"10000\r\n" + b"a" * 65536 + b"\r\n"] * 40)
    assert answer.startswith(b"HTTP/1.1 413 ")


async def test_a_slow_body_is_not_waited_for() -> None:
    """Else a few hundred clients that never finish hold all of the manager's memory."""
    app = FastAPI()

    @app.post("/")
    async def read(request: Request) -> int:
        return len(await request.body())

    app.add_middleware(BodyLimit, largest=100, patience=0.05)

    class Stalled(httpx.AsyncByteStream):
        async def __aiter__(self) -> AsyncIterator[bytes]:
            yield b"some"
            await asyncio.Event().wait()

    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://manager") as http:
        answer = await http.post("/", content=Stalled())
    assert (answer.status_code, answer.headers["connection"]) == (408, "close")


def test_who_says_nothing_is_let_go(face: Face) -> None:
    """A connection that was opened and left must not stay for ever."""
    seen: list[Connection] = []

    async def connections() -> None:
        seen[:] = [each for each in face.server.server_state.connections if isinstance(each, Connection)]

    with socket.create_connection(face.listener.getsockname()[:2], timeout=5) as silent:

        def here() -> bool:
            face.do(connections())
            return any(each.client == silent.getsockname() for each in seen)

        until(here)
        (mine,) = [each for each in seen if each.client == silent.getsockname()]
        face.loop.call_soon_threadsafe(mine._timer._run)  # its time is over
        assert silent.recv(100).startswith(b"HTTP/1.1 408 ")
