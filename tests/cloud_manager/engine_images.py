"""For tests of images that go into a Docker Engine: a store of images, a relay that counts, a clean engine after."""

from __future__ import annotations

import asyncio
import gzip
import json
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
from backports.zstd import compress

from cloud_manager.deployment import Key
from cloud_manager.deployment_spec import DeploymentSpec
from cloud_manager.errors import NotFound
from cloud_manager.targets.docker_credentials import DockerLogin
from cloud_manager.targets.docker_engine import Engine
from cloud_manager.targets.docker_images import EngineImages
from cloud_manager.targets.target import Wanted
from image_builder.contract import ImageReference
from tests.base_image import LAYER, image_of, layer_of
from tests.fakes.clock import ManualClock
from tests.fakes.image_shelf import ImageShelf

KEY = Key("7", "42")
SPEC = DeploymentSpec.model_validate({"deploy": {"type": "docker"}, "build": {"components": {}}})
LABEL = "io.tango.cloud-deploy.key"


def layer(name: str, size: int = 20) -> bytes:
    """A gzip layer of two members with one file of random bytes, as the builder makes them."""
    plain = layer_of({name: secrets.token_bytes(size)})
    return b"".join(gzip.compress(part, 0, mtime=0) for part in (plain[:100], plain[100:]))


def as_zstd(data: bytes) -> bytes:
    return compress(gzip.decompress(data))


class Store(ImageShelf):
    """A builder that has images. `gone`: digests that it has cleared away. at: called with each digest asked for."""

    def __init__(self) -> None:
        super().__init__(chunk=1 << 16)
        self.gone: set[str] = set()
        self.at: Callable[[str], Awaitable[None]] | None = None

    def put(self, *layers: bytes, zstd: Mapping[bytes, bytes] | None = None, pushed: str = "") -> ImageReference:
        """zstd: how those layers are stored that are not gzip."""
        config = {"Cmd": ["/program"], "Labels": {LABEL: "test"}}
        manifest, (about, *_) = image_of(layers, "amd64", config)
        described = json.loads(manifest)
        for row, data in zip(described["layers"], layers, strict=True):
            stored = (zstd or {}).get(data, data)
            kind = LAYER if stored is data else LAYER.replace("gzip", "zstd")
            row |= {"digest": self.add(stored), "size": len(stored), "mediaType": kind}
        self.add(about)
        digest = self.add(json.dumps(described).encode())
        build = secrets.token_hex(16)
        where = f"{pushed}@{digest}" if pushed else None
        return ImageReference(repository=f"builds/{build}", digest=digest, size=sum(map(len, layers)), pushed=where)

    async def blob(self, image: ImageReference, digest: str) -> AsyncIterator[bytes]:
        if digest in self.gone:
            raise NotFound("the image builder does not have the image any more", "start again", code="blob_unknown")
        if self.at is not None:
            await self.at(digest)
        async for chunk in super().blob(image, digest):
            yield chunk

    def config(self, image: ImageReference) -> str:
        return str(json.loads(self.blobs[image.digest])["config"]["digest"])


class Relay:
    """Stands before an engine's socket and counts what goes in. before: called with each request's first bytes."""

    def __init__(self, real: str) -> None:
        self.bytes_in = 0
        self.requests: list[str] = []
        self.before: Callable[[str], Awaitable[None]] | None = None
        self._real = real.removeprefix("unix://")
        self._open: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def serving(self, folder: Path) -> AsyncIterator[str]:
        path = folder / f"{secrets.token_hex(4)}.sock"
        server = await asyncio.start_unix_server(self._accept, path)
        try:
            yield f"unix://{path}"
        finally:
            server.close()
            for task in self._open:
                task.cancel()
            await asyncio.gather(*self._open, return_exceptions=True)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._relay(reader, writer))
        self._open.add(task)
        task.add_done_callback(self._open.discard)

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, here = await asyncio.open_unix_connection(self._real)
        ways = [asyncio.create_task(self._in(reader, here)), asyncio.create_task(self._back(there, writer))]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
            for end in (here, writer):
                end.close()
                with suppress(ConnectionError):
                    await end.wait_closed()

    async def _in(self, reader: asyncio.StreamReader, here: asyncio.StreamWriter) -> None:
        while data := await reader.read(1 << 16):
            await self._note(data)
            self.bytes_in += len(data)
            here.write(data)
            await here.drain()

    async def _note(self, data: bytes) -> None:
        line = data.split(b"\r\n", 1)[0]
        if line.endswith(b"HTTP/1.1") and len(line) < 2000:
            self.requests.append(line.decode())
            if self.before is not None:
                await self.before(self.requests[-1])

    @staticmethod
    async def _back(there: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await there.read(1 << 16):
            writer.write(data)
            await writer.drain()


class Bench:
    """EngineImages over a real engine, and what a person could do with `docker` beside it."""

    def __init__(self, engine: Engine, store: Store, relay: Relay, owner: str, host: str, login: DockerLogin):
        self.engine, self.store, self.relay, self.owner = engine, store, relay, owner
        self.clock = ManualClock()
        self.images = EngineImages(engine, store, login, self.clock, owner)
        self.log: list[str] = []
        self.registry = ""
        transport = httpx.HTTPTransport(uds=host.removeprefix("unix://"))
        self.docker = httpx.Client(transport=transport, base_url="http://docker", timeout=60, trust_env=False)

    async def ensure(self, image: ImageReference | str, generation: int = 1, revision: str = "a" * 16) -> str:
        built = image if isinstance(image, ImageReference) else None
        uri = image if isinstance(image, str) else None
        return await self.images.ensure(Wanted(KEY, SPEC, revision, built, uri, generation), self.log.append)

    def inspect(self, name: str) -> dict[str, Any]:
        return dict(self.docker.get(f"/images/{name}/json").raise_for_status().json())

    def has(self, name: str) -> bool:
        return self.docker.get(f"/images/{name}/json").status_code == 200

    def tag(self, name: str, repository: str, tag: str) -> None:
        self.docker.post(f"/images/{name}/tag", params={"repo": repository, "tag": tag}).raise_for_status()

    def remove(self, name: str) -> None:
        self.docker.delete(f"/images/{name}").raise_for_status()

    def push(self, name: str, tag: str, login: str = "e30=") -> None:
        answer = self.docker.post(f"/images/{name}/push", params={"tag": tag}, headers={"X-Registry-Auth": login})
        assert "errorDetail" not in answer.raise_for_status().text, answer.text

    def names(self) -> list[str]:
        """All that this installation has given."""
        rows = self.docker.get("/images/json").json()
        return [name for row in rows for name in row["RepoTags"] or () if f"/{self.owner}-images/" in name]

    def clean(self, others: Sequence[str]) -> None:
        """Whatever the test has left under its own names; others: the registries that were its alone."""
        rows = self.docker.get("/images/json").json()
        for row in rows:
            names = [*(row["RepoTags"] or ()), *(row["RepoDigests"] or ())]
            mine = [name for name in names if f"/{self.owner}-images/" in name or self.owner in name]
            for name in [*mine, *(name for name in names if name.startswith(tuple(others)) and name not in mine)]:
                self.docker.delete(f"/images/{name}", params={"force": "1"})
        self.docker.close()


@asynccontextmanager
async def bench(host: str, folder: Path, *registries: str) -> AsyncIterator[Bench]:
    """folder: `home` in it is where the manager's login is. registries: images of theirs are removed at the end."""
    owner = f"t{secrets.token_hex(6)}"
    relay = Relay(host)
    async with relay.serving(folder) as address:
        engine = Engine(address)
        made = Bench(engine, Store(), relay, owner, host, DockerLogin(folder / "home"))
        try:
            yield made
        finally:
            await engine.aclose()
            made.clean([f"{registry}/" for registry in registries])
