"""Faults around an HTTP service, with a clock that is turned by hand."""

from __future__ import annotations

import asyncio

import httpx
import pytest
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.types import Receive, Scope, Send

from gcp_emulator.clock import ManualClock
from gcp_emulator.faults import Fault, Faults, Rule
from gcp_emulator.http_faults import HttpFaults
from gcp_emulator.http_server import HttpServer

URL = "https://storage.googleapis.com/b/x"


class Service:
    """Counts what it did, and answers `done`."""

    def __init__(self, *rules: Rule) -> None:
        self.done: list[bytes] = []
        self.clock = ManualClock()
        self.faults = Faults(list(rules))
        self.app = HttpFaults(self.serve, self.faults, self.clock, refused, "123")

    async def serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.done.append(await Request(scope, receive).body())
        await PlainTextResponse("done")(scope, receive, send)

    def client(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(transport=httpx.ASGITransport(app=self.app))


def refused(fault: Fault, words: str) -> Response:
    return PlainTextResponse(words, status_code=fault.http_status)


@pytest.mark.parametrize(("when", "done"), [("before", []), ("after", [b"bytes"])])
async def test_before_nothing_is_done_and_after_all_of_it(when: str, done: list[bytes]) -> None:
    """A client that tries again must find both: the first would lose data, the second make it twice."""
    rule = {"call": "POST storage.googleapis.com/b/*", "resource": "/b/x", "code": "UNAVAILABLE", "when": when}
    service = Service(Rule.model_validate(rule))
    async with service.client() as client:
        first = await client.post(URL, content=b"bytes")
        assert (first.status_code, first.text) == (503, "The service is currently unavailable.")
        assert service.done == done
        assert (await client.post(URL, content=b"bytes")).text == "done"


async def test_a_slow_call_takes_its_time_and_then_succeeds() -> None:
    service = Service(Rule(call="GET *", seconds=20))
    async with service.client() as client:
        asked = asyncio.create_task(client.get(URL))
        await service.clock.advance(19)
        assert not asked.done()
        await service.clock.advance(1)
        assert (await asked).text == "done"


async def test_a_call_that_never_ends_does_not_keep_the_twin_from_stopping() -> None:
    service = Service(Rule(call="GET *", forever=True))
    server = HttpServer(service.app, https=False)
    port = await server.start()
    async with httpx.AsyncClient() as client:
        asked = asyncio.create_task(client.get(f"http://127.0.0.1:{port}/", timeout=30))
        async with asyncio.timeout(10):
            while not service.faults.calls:
                await asyncio.sleep(0.01)
            await server.stop()
        asked.cancel()
    assert service.done == []
