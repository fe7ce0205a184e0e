"""The builder's client against real servers on loopback, those that break off and those that talk nonsense too."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from cloud_manager.builder_client import BuilderClient
from cloud_manager.errors import BuilderUnavailable, DeployError
from image_builder.contract import BuildEvent, BuildRequest, BuildState, BuildStatus, ImageReference, Problem

REQUEST = BuildRequest(owner="7/42", source="common/7/42/nn_model", entrypoint=("python", "app.py"))
STATUS = BuildStatus(id="b" * 32, state=BuildState.QUEUED, request=REQUEST, created=1.0)
PROBLEM = Problem(code="bad_build_request", cause="the source is outside", fix="Put it inside")

Handler = Callable[["Exchange"], Awaitable[None]]


class Exchange:
    """One request as it came, and the bare connection to answer it on."""

    def __init__(self, head: str, body: bytes, writer: asyncio.StreamWriter) -> None:
        self.line = head.splitlines()[0]
        self.headers = {
            name.lower(): value for name, _, value in (line.partition(": ") for line in head.splitlines()[1:])
        }
        self.body = body
        self.writer = writer

    def answer(
        self, status: int, body: str | bytes, *, length: int | None = None, kind: str = "application/json"
    ) -> None:
        data = body.encode() if isinstance(body, str) else body
        head = f"HTTP/1.1 {status} X\r\nContent-Type: {kind}\r\nConnection: close\r\n"
        if length != -1:
            head += f"Content-Length: {len(data) if length is None else length}\r\n"
        self.writer.write(f"{head}\r\n".encode() + data)


@asynccontextmanager
async def builder(handler: Handler) -> AsyncIterator[tuple[BuilderClient, list[Exchange]]]:
    seen: list[Exchange] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        exchange = Exchange(head, b"", writer)
        exchange.body = await reader.readexactly(int(exchange.headers.get("content-length", "0")))
        seen.append(exchange)
        await handler(exchange)
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    client = BuilderClient(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/")
    try:
        yield client, seen
    finally:
        await client.aclose()
        server.close()
        await server.wait_closed()


def always(status: int, body: str | bytes) -> Handler:
    async def handler(exchange: Exchange) -> None:
        exchange.answer(status, body)

    return handler


def error(problem: Problem) -> str:
    return f'{{"error": {problem.model_dump_json()}}}'


async def test_a_build_is_asked_for_and_looked_at() -> None:
    async with builder(always(202, STATUS.model_dump_json())) as (client, seen):
        assert await client.submit(REQUEST) == STATUS
        assert await client.status("b" * 32) == STATUS
        await client.release("b" * 32, "7/42")
    assert [each.line for each in seen] == [
        "POST /builds HTTP/1.1",
        f"GET /builds/{'b' * 32} HTTP/1.1",
        f"DELETE /builds/{'b' * 32}?owner=7%2F42 HTTP/1.1",
    ]
    assert BuildRequest.model_validate_json(seen[0].body) == REQUEST


async def test_the_images_that_are_still_needed_are_named() -> None:
    async with builder(always(204, "")) as (client, seen):
        await client.keep("7/42", [f"sha256:{'4f' * 32}"])
    assert seen[0].line == "PUT /pins HTTP/1.1"
    assert json.loads(seen[0].body) == {"owner": "7/42", "digests": [f"sha256:{'4f' * 32}"]}


async def test_a_build_that_the_builder_lost_is_none_and_needs_no_release() -> None:
    async with builder(always(404, error(PROBLEM))) as (client, _):
        assert await client.status("b" * 32) is None
        await client.release("b" * 32, "7/42")


async def test_a_builder_that_is_down_is_named_with_what_to_check() -> None:
    async with builder(always(200, "")) as (client, _):
        pass
    gone = BuilderClient(client.url)
    with pytest.raises(BuilderUnavailable) as raised:
        await gone.submit(REQUEST)
    await gone.aclose()
    problem = raised.value.problem
    assert problem.retryable
    assert client.url in problem.cause
    assert "IMAGE_BUILDER_URL" in problem.fix


async def test_the_builders_own_words_reach_the_user() -> None:
    async with builder(always(422, error(PROBLEM))) as (client, _):
        with pytest.raises(DeployError) as raised:
            await client.submit(REQUEST)
    assert raised.value.problem == PROBLEM
    assert not isinstance(raised.value, BuilderUnavailable)


async def test_a_full_queue_is_tried_again() -> None:
    async with builder(always(429, error(PROBLEM))) as (client, _):
        with pytest.raises(DeployError) as raised:
            await client.submit(REQUEST)
    assert (raised.value.problem.cause, raised.value.problem.retryable) == (PROBLEM.cause, True)


@pytest.mark.parametrize("body", ["", "<html>Bad gateway</html>", "[]", error(PROBLEM)])
async def test_a_builder_in_trouble_is_waited_for(body: str) -> None:
    async with builder(always(502, body)) as (client, _):
        with pytest.raises(BuilderUnavailable) as raised:
            await client.status("b" * 32)
    assert raised.value.problem.retryable


@pytest.mark.parametrize(
    ("status", "body"), [(200, "<html>"), (200, '{"id": 1}'), (200, ""), (404, "<html>"), (403, "[]")]
)
async def test_another_program_on_the_builders_port_is_told_apart(status: int, body: str) -> None:
    async with builder(always(status, body)) as (client, _):
        with pytest.raises(BuilderUnavailable, match="does not speak as an image builder"):
            await client.submit(REQUEST)


def sse(*events: BuildEvent) -> str:
    return ": hello\n\n" + "".join(
        f"id: {each.sequence}\ndata: {each.model_dump_json()}\n\n: ping\n\n" for each in events
    )


EVENTS = [BuildEvent(sequence=n, time=1.0, kind="log", message=f"line {n}") for n in (3, 4)]


def streaming(state: BuildState, *events: BuildEvent) -> Handler:
    """A builder that sends these events, ends the stream, and says this state when it is asked."""

    async def handler(exchange: Exchange) -> None:
        if "/events" in exchange.line:
            exchange.answer(200, sse(*events), kind="text/event-stream")
        else:
            exchange.answer(200, STATUS.model_copy(update={"state": state}).model_dump_json())

    return handler


async def test_events_come_in_order_from_where_one_was() -> None:
    done = BuildEvent(sequence=5, time=1.0, kind="done", message="succeeded")
    async with builder(streaming(BuildState.SUCCEEDED, *EVENTS, done)) as (client, seen):
        assert [event async for event in client.events("b" * 32, after=2)] == [*EVENTS, done]
    assert [each.line for each in seen] == [f"GET /builds/{'b' * 32}/events?after=2 HTTP/1.1"]


async def test_a_build_that_is_done_has_no_more_events() -> None:
    async with builder(streaming(BuildState.FAILED)) as (client, _):
        assert [event async for event in client.events("b" * 32, after=9)] == []


async def test_a_builder_that_goes_down_has_not_ended_the_build() -> None:
    async with builder(streaming(BuildState.RUNNING, *EVENTS)) as (client, _):
        with pytest.raises(BuilderUnavailable, match="before it was done"):
            assert [event async for event in client.events("b" * 32)]


async def test_a_stream_that_breaks_off_is_an_error_and_not_an_end() -> None:
    """Else a build would be taken for done when its builder died."""

    async def handler(exchange: Exchange) -> None:
        exchange.answer(200, sse(*EVENTS), length=100_000, kind="text/event-stream")

    got = []
    async with builder(handler) as (client, _):
        with pytest.raises(BuilderUnavailable):
            async for event in client.events("b" * 32):
                got.append(event)
    assert got == EVENTS


async def test_events_of_an_unknown_build_are_the_builders_error() -> None:
    async with builder(always(404, error(PROBLEM))) as (client, _):
        with pytest.raises(DeployError, match="outside"):
            await anext(client.events("b" * 32))


async def test_a_page_in_place_of_a_stream_is_told() -> None:
    async with builder(always(200, "<html>")) as (client, _):
        with pytest.raises(BuilderUnavailable, match="does not speak"):
            await anext(client.events("b" * 32))


DATA = bytes(range(256)) * 4000
DIGEST = f"sha256:{hashlib.sha256(DATA).hexdigest()}"
IMAGE = ImageReference(repository="builds/1", digest=f"sha256:{'ab' * 32}", size=len(DATA))


async def fetch(client: BuilderClient, digest: str = DIGEST, image: ImageReference = IMAGE) -> bytes:
    return b"".join([chunk async for chunk in client.blob(image, digest)])


async def test_a_layer_is_fetched_and_verified() -> None:
    async with builder(always(200, DATA)) as (client, seen):
        assert await fetch(client) == DATA
        assert await fetch(client, image=IMAGE.model_copy(update={"digest": DIGEST})) == DATA
    assert [each.line.split()[1] for each in seen] == [
        f"/v2/builds/1/blobs/{DIGEST}",
        f"/v2/builds/1/manifests/{DIGEST}",
    ]


@pytest.mark.parametrize("ranges", [True, False], ids=["server knows ranges", "server starts over"])
async def test_a_connection_that_breaks_is_taken_up_where_it_broke(ranges: bool) -> None:
    """A 2 GB layer need not begin anew, and no byte comes twice."""

    async def handler(exchange: Exchange) -> None:
        place = exchange.headers.get("range")
        if place is None:
            exchange.answer(200, DATA[:600_000], length=len(DATA))
        elif ranges:
            exchange.answer(206, DATA[int(place.removeprefix("bytes=").removesuffix("-")) :])
        else:
            exchange.answer(200, DATA)

    async with builder(handler) as (client, seen):
        assert await fetch(client) == DATA
    assert len(seen) == 2


async def test_a_connection_that_breaks_twice_is_given_up() -> None:
    async def handler(exchange: Exchange) -> None:
        exchange.answer(200, DATA[:300_000], length=len(DATA))

    async with builder(handler) as (client, seen):
        with pytest.raises(BuilderUnavailable):
            await fetch(client)
    assert len(seen) == 2


async def test_other_bytes_than_the_digest_says_are_refused() -> None:
    async with builder(always(200, DATA[:-1] + b"x")) as (client, _):
        with pytest.raises(BuilderUnavailable) as raised:
            await fetch(client)
    assert raised.value.problem.code == "digest_mismatch"


async def test_a_layer_that_is_not_there_is_the_builders_error() -> None:
    async with builder(always(404, error(PROBLEM))) as (client, _):
        with pytest.raises(DeployError, match="outside"):
            await fetch(client)


async def test_a_layer_that_the_registry_lost_is_told_in_plain_words() -> None:
    lost = '{"errors": [{"code": "BLOB_UNKNOWN", "message": "the image has no such blob", "detail": null}]}'
    async with builder(always(404, lost)) as (client, _):
        with pytest.raises(DeployError, match="does not have the image any more") as raised:
            await fetch(client)
    assert (raised.value.problem.code, raised.value.problem.retryable) == ("blob_unknown", False)
