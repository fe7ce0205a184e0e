"""Pushing and pulling, with a real registry and with the faults that real networks have."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest

from image_builder.errors import BadBuildRequest, BuildError
from image_builder.oci.credentials import HUB_KEY, Credential, DockerConfig
from image_builder.oci.reference import Reference, parse
from image_builder.oci.registry import Registry, Tags

CONFIG = "application/vnd.oci.image.config.v1+json"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"


class Anonymous:
    async def find(self, registry: str) -> Credential | None:
        return None


class Slept:
    """A clock that only counts."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    async def __call__(self, seconds: float) -> None:
        self.seconds.append(seconds)


class Faulty(httpx.AsyncBaseTransport):
    """The real network, except that `fault` may answer in its place."""

    def __init__(self, fault: Callable[[httpx.Request], httpx.Response | None]) -> None:
        self.real = httpx.AsyncHTTPTransport()
        self.fault = fault
        self.asked: list[str] = []

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(f"{request.method} {request.url.path}")
        return self.fault(request) or await self.real.handle_async_request(request)

    async def aclose(self) -> None:
        await self.real.aclose()


@asynccontextmanager
async def connected(
    reference: Reference, fault: Callable[[httpx.Request], httpx.Response | None] = lambda _: None
) -> AsyncIterator[tuple[Registry, Faulty, Slept]]:
    transport, sleep = Faulty(fault), Slept()
    async with httpx.AsyncClient(transport=transport, timeout=20) as client:
        yield Registry(reference, client, Anonymous(), sleep=sleep), transport, sleep


def blob(folder: Path, size: int) -> tuple[str, Path]:
    data = os.urandom(size)
    digest = hashlib.sha256(data).hexdigest()
    (folder / digest).write_bytes(data)
    return f"sha256:{digest}", folder / digest


def somewhere(registry: str) -> Reference:
    return parse(f"{registry}/team/{secrets.token_hex(4)}:1")


async def read(registry: Registry, reference: Reference, digest: str) -> bytes:
    return b"".join([chunk async for chunk in registry.blob(reference, digest)])


async def test_what_is_pushed_can_be_pulled(registry: str, tmp_path: Path) -> None:
    """Otherwise no image ever reaches a machine that runs it."""
    reference = somewhere(registry)
    digest, path = blob(tmp_path, 3_000_000)
    config, config_path = blob(tmp_path, 10)
    async with connected(reference) as (client, transport, _):
        sent: list[int] = []
        assert await client.push_blob(reference, digest, path, sent=sent.append) == "uploaded"
        assert sent[-1] == 3_000_000
        await client.push_blob(reference, config, config_path)
        data = json.dumps(
            {
                "schemaVersion": 2,
                "mediaType": MANIFEST,
                "config": {"mediaType": CONFIG, "digest": config, "size": 10},
                "layers": [
                    {"mediaType": "application/vnd.oci.image.layer.v1.tar+gzip", "digest": digest, "size": 3_000_000}
                ],
            }
        ).encode()
        published = await client.push_manifest(reference, data, MANIFEST)
        found = await client.manifest(reference)
        assert (found.digest, found.media_type, found.data) == (published, MANIFEST, data)
        assert (await client.manifest(reference.at(published))).data == data
        assert await read(client, reference, digest) == path.read_bytes()

        transport.asked.clear()
        assert await client.push_blob(reference, digest, path) == "reused"
        assert transport.asked == [f"HEAD /v2/{reference.repository}/blobs/{digest}"]
        other = somewhere(registry)
        assert await client.push_blob(other, digest, path, mount_from=reference.repository) == "mounted"
        assert not any(line.startswith("PATCH") for line in transport.asked)


async def test_what_a_repository_has_is_told(registry: str) -> None:
    """Otherwise layers that other machines sent are sent again. A repository that is not there has nothing."""
    reference, other = somewhere(registry), somewhere(registry)
    async with connected(reference) as (client, transport, _):
        assert await client.tags(reference) == Tags(frozenset(), complete=True)
        digest = await client.push_bytes(reference, b"{}")
        assert digest == f"sha256:{hashlib.sha256(b'{}').hexdigest()}"
        assert [call.partition(" ")[0] for call in transport.asked[1:]] == ["POST", "PUT"]
        assert await client.blob_size(reference, digest) == 2
        assert await client.blob_size(other, digest) is None
        assert await client.mount(other, digest, reference.repository)
        assert await client.blob_size(other, digest) == 2
        assert not await client.mount(other, f"sha256:{'0' * 64}", reference.repository)
        config = {"mediaType": CONFIG, "digest": digest, "size": 2}
        manifest = {"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": []}
        await client.push_manifest(other, json.dumps(manifest).encode(), MANIFEST)
        assert await client.tags(other) == Tags(frozenset({"1"}), complete=True)


async def test_a_broken_upload_is_taken_up_again(registry: str, tmp_path: Path) -> None:
    """Otherwise one reset connection fails the build. This registry forgets what broke off: that blob begins anew."""
    reference = somewhere(registry)
    digest, path = blob(tmp_path, 8_000_000)
    proxy = CuttingProxy(registry, after=3_000_000)
    async with proxy.serving() as address:
        through = parse(f"{address}/{reference.repository}:1")

        async def sleep(_seconds: float) -> None:
            await proxy.settled.wait()

        async with httpx.AsyncClient(timeout=20) as http:
            client = Registry(through, http, Anonymous(), sleep=sleep)
            assert await client.push_blob(through, digest, path) == "uploaded"
            assert await read(client, through, digest) == path.read_bytes()
    assert proxy.settled.is_set()
    assert proxy.sent < 8_000_000 + 4_000_000


async def test_a_broken_upload_goes_on_where_it_broke(tmp_path: Path) -> None:
    """Otherwise a bad line means sending gigabytes again and again. By the specification's "Resuming an upload"."""
    digest, path = blob(tmp_path, 5_000_000)
    kept = bytearray()
    committed: list[str] = []

    async def answer(request: httpx.Request) -> httpx.Response:
        if request.method == "PATCH":
            assert request.headers["content-range"] == f"{len(kept)}-4999999"
            async for chunk in request.stream:  # type: ignore[union-attr]
                kept.extend(chunk)
                if 2_000_000 < len(kept) < 4_000_000:
                    raise httpx.WriteError("reset", request=request)
        if request.method == "GET":
            return httpx.Response(204, headers={"Location": "/v2/a/up?state=2", "Range": f"0-{len(kept) - 1}"})
        if request.method == "PUT":
            committed.append(str(request.url))
        status = {"HEAD": 404, "POST": 202, "PATCH": 202, "PUT": 201}[request.method]
        return httpx.Response(status, headers={"Location": "/v2/a/up?state=1"})

    reference = parse("registry.test/a:1")
    async with httpx.AsyncClient(transport=httpx.MockTransport(answer)) as http:
        client = Registry(reference, http, Anonymous(), sleep=Slept())
        assert await client.push_blob(reference, digest, path) == "uploaded"
    assert bytes(kept) == path.read_bytes()
    assert committed == [f"https://registry.test/v2/a/up?state=1&digest={digest}"]


class CuttingProxy:
    """Carries bytes to a registry; resets the first connection that sends more than `after` of them."""

    def __init__(self, registry: str, after: int) -> None:
        self.host, _, port = registry.partition(":")
        self.port = int(port)
        self.after = after
        self.sent = 0
        self.settled = asyncio.Event()
        self.tasks: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[str]:
        server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        try:
            yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        finally:
            server.close()
            for task in self.tasks:
                task.cancel()
            await asyncio.gather(*self.tasks, return_exceptions=True)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.tasks.add(asyncio.create_task(self._carry(reader, writer)))

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        up_reader, up_writer = await asyncio.open_connection(self.host, self.port)
        try:
            down = asyncio.create_task(self._down(up_reader, writer))
            self.tasks.add(down)
            carried = 0
            while data := await reader.read(65536):
                carried += len(data)
                self.sent += len(data)
                up_writer.write(data)
                await up_writer.drain()
                if carried > self.after and not self.settled.is_set():
                    writer.transport.abort()
                    up_writer.write_eof()
                    await down  # the registry has seen the end, and kept what came
                    self.settled.set()
                    return
        finally:
            up_writer.close()
            writer.close()

    async def _down(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            if not writer.transport.is_closing():
                writer.write(data)


@pytest.mark.parametrize("status", [429, 500, 502, 503])
async def test_trouble_that_passes_is_waited_out(registry: str, tmp_path: Path, status: int) -> None:
    """Otherwise a registry that is restarted, or throttles, fails every build of that minute."""
    reference = somewhere(registry)
    digest, path = blob(tmp_path, 1000)
    left = [2]

    def fault(request: httpx.Request) -> httpx.Response | None:
        left[0] -= 1
        return httpx.Response(status, headers={"Retry-After": "7"}) if left[0] >= 0 else None

    async with connected(reference, fault) as (client, _, sleep):
        assert await client.push_blob(reference, digest, path) == "uploaded"
        assert sleep.seconds == [7.0, 7.0]


async def test_trouble_that_stays_is_named(registry: str) -> None:
    reference = somewhere(registry)
    async with connected(reference, lambda _: httpx.Response(503)) as (client, _, sleep):
        with pytest.raises(BuildError) as caught:
            await client.manifest(reference)
    assert caught.value.problem.code == "registry_unreachable"
    assert caught.value.problem.retryable
    assert registry in caught.value.problem.cause
    assert len(sleep.seconds) == 4


@pytest.mark.parametrize(("status", "code"), [(401, "registry_auth"), (403, "registry_auth"), (404, "image_not_found")])
async def test_refusals_are_final_and_say_what_to_do(registry: str, status: int, code: str) -> None:
    reference = somewhere(registry)
    async with connected(reference, lambda _: httpx.Response(status)) as (client, _, sleep):
        with pytest.raises(BuildError) as caught:
            await client.manifest(reference)
    assert caught.value.problem.code == code
    assert not caught.value.problem.retryable
    assert "docker login" in caught.value.problem.fix
    assert sleep.seconds == []


async def test_other_bytes_are_never_accepted(registry: str, tmp_path: Path) -> None:
    """Otherwise a truncated or swapped layer is run."""
    reference = somewhere(registry)
    digest, path = blob(tmp_path, 1000)

    def cut(request: httpx.Request) -> httpx.Response | None:
        return httpx.Response(200, content=path.read_bytes()[:500]) if request.method == "GET" else None

    async with connected(reference, cut) as (client, _, _):
        await client.push_blob(reference, digest, path)
        with pytest.raises(BuildError) as caught:
            await read(client, reference, digest)
        assert caught.value.problem.code == "wrong_digest"
        with pytest.raises(BuildError) as caught:
            await client.manifest(reference.at(digest))
        assert caught.value.problem.code == "wrong_digest"


async def test_a_token_is_fetched_once_and_again_when_it_expires() -> None:
    """Otherwise every call asks the token service, or a long push dies after five minutes."""
    valid = ["first"]
    asked: list[httpx.URL] = []

    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/token":
            asked.append(request.url)
            assert request.headers["authorization"].startswith("Basic ")
            return httpx.Response(200, json={"token": valid[0]})
        if request.headers.get("authorization") != f"Bearer {valid[0]}":
            challenge = 'Bearer realm="https://registry.test/token",service="registry.test",scope="repository:a:pull"'
            return httpx.Response(401, headers={"WWW-Authenticate": challenge})
        return httpx.Response(200, content=b"{}", headers={"content-type": MANIFEST})

    class Known:
        async def find(self, registry: str) -> Credential | None:
            return Credential("user", "secret")

    reference = parse("registry.test/a:1")
    async with httpx.AsyncClient(transport=httpx.MockTransport(answer)) as http:
        client = Registry(reference, http, Known())
        await client.manifest(reference)
        await client.manifest(reference)
        assert len(asked) == 1
        assert asked[0].params.get_list("scope") == ["repository:a:pull"]
        valid[0] = "second"
        await client.manifest(reference)
        assert len(asked) == 2
    assert "secret" not in repr(Credential("user", "secret"))


async def test_an_upload_elsewhere_does_not_see_our_token(tmp_path: Path) -> None:
    """Otherwise a registry's answer can send our password to any host."""
    digest, path = blob(tmp_path, 2_000_000)
    elsewhere: list[httpx.Headers] = []

    async def answer(request: httpx.Request) -> httpx.Response:
        await request.aread()
        if request.url.host == "store.test":
            elsewhere.append(request.headers)
            return httpx.Response({"PATCH": 202, "PUT": 201}[request.method], headers={"Location": str(request.url)})
        if "authorization" not in request.headers:
            return httpx.Response(401, headers={"WWW-Authenticate": "Basic realm=x"})
        status = {"HEAD": 404, "POST": 202}[request.method]
        return httpx.Response(status, headers={"Location": "https://store.test/up"})

    class Known:
        async def find(self, registry: str) -> Credential | None:
            return Credential("user", "secret")

    reference = parse("registry.test/a:1")
    async with httpx.AsyncClient(transport=httpx.MockTransport(answer)) as http:
        assert await Registry(reference, http, Known(), sleep=Slept()).push_blob(reference, digest, path) == "uploaded"
    assert len(elsewhere) == 2 and not any("authorization" in headers for headers in elsewhere)


async def test_docker_logins_are_used(tmp_path: Path) -> None:
    """Otherwise people who logged in are told to log in."""
    helper = tmp_path / "docker-credential-fake"
    helper.write_text(
        "#!/bin/sh\nread server\n"
        '[ "$server" = "eu.example" ] || { echo credentials not found; exit 1; }\n'
        'echo \'{"Username":"<token>","Secret":"refresh"}\'\n'
    )
    helper.chmod(0o755)
    (tmp_path / "config.json").write_text(
        json.dumps(
            {"auths": {HUB_KEY: {"auth": "bWU6cHc="}}, "credHelpers": {"eu.example": "fake"}, "credsStore": "fake"}
        )
    )
    store = DockerConfig({"DOCKER_CONFIG": str(tmp_path), "PATH": f"{tmp_path}:{os.environ['PATH']}"})
    assert await store.find("docker.io") == Credential("me", "pw")
    assert await store.find("eu.example") == Credential("", "", identity_token="refresh")
    assert await store.find("other.example") is None
    assert await DockerConfig({"HOME": str(tmp_path / "nobody")}).find("docker.io") is None


@pytest.mark.parametrize(
    ("text", "full"),
    [
        ("python:3.11-slim", "docker.io/library/python:3.11-slim"),
        ("team/model", "docker.io/team/model:latest"),
        ("localhost/model", "localhost/model:latest"),
        ("127.0.0.1:5000/a/b:1", "127.0.0.1:5000/a/b:1"),
        ("europe-docker.pkg.dev/p/r/i@sha256:" + "a" * 64, "europe-docker.pkg.dev/p/r/i@sha256:" + "a" * 64),
        ("index.docker.io/library/python", "docker.io/library/python:latest"),
        ("yolov3:latest", "docker.io/library/yolov3:latest"),
    ],
)
def test_references_are_read_as_docker_reads_them(text: str, full: str) -> None:
    assert str(parse(text)) == full
    assert parse(full) == parse(text)


@pytest.mark.parametrize(
    "text", ["", "UPPER", "a//b", "a:b:c", "a@sha256:12", "-x/y", "a/../b", "x:" + "t" * 129, "http://a/b"]
)
def test_what_is_no_reference_is_refused(text: str) -> None:
    with pytest.raises(BadBuildRequest):
        parse(text)


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1:5000", "[::1]:5000", "localhost:1"])
def test_plain_http_is_for_this_machine_only(host: str) -> None:
    assert parse(f"{host}/a").loopback
    assert not parse("registry.example:5000/a").loopback
