"""Large layers are sent while they are made; what a registry has is not made again, though the cache was cleared."""

from __future__ import annotations

import asyncio
import hashlib
import json
import random
import secrets
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from image_builder.contract import ImageReference
from image_builder.growing_file import GrowingFile
from image_builder.pipeline import build
from image_builder.work import in_thread
from image_builder.workshop import Network, Workshop
from tests.image_builder.test_base_build import Wire, tags
from tests.image_builder.test_pipeline import check_blobs
from tests.image_builder.wheels import Notes, make_project, make_request, make_wheel, offline, plan_of

LARGE = 6_000_000


class Place:
    """A builder, a project with a large package and large weights, and a repository of its own."""

    def __init__(self, folder: Path, registry: str, wire: Wire) -> None:
        make_wheel(folder / "links", files={"hello/data.bin": random.Random(2).randbytes(LARGE)})
        make_project(folder / "shared", {"app.py": "", "w.pt": random.Random(1).randbytes(LARGE)})
        self.shared, self.registry, self.wire = folder / "shared", registry, wire
        self.workshop = Workshop.open(folder / "state", offline(folder / "links"), Network(connect=wire.connect))
        self.name = secrets.token_hex(4)

    async def build(self, notes: Notes | None = None, **more: Any) -> tuple[ImageReference, Notes]:
        told = notes or Notes()
        push = f"{self.registry}/{self.name}/model:1"
        request = make_request("hello", push=push, **{"weights": ("w.pt",), **more})
        return await build(plan_of(request, self.shared, self.workshop), self.workshop, told), told

    async def check(self, image: ImageReference) -> None:
        """Every layer can be pulled and is what its digest says."""
        manifest = json.loads(self.workshop.layout.path(image.digest).read_bytes())
        async with httpx.AsyncClient(base_url=f"http://{self.registry}/v2/{self.name}/model/", trust_env=False) as http:
            for row in manifest["layers"]:
                data = (await http.get(f"blobs/{row['digest']}")).content
                assert f"sha256:{hashlib.sha256(data).hexdigest()}" == row["digest"] and len(data) == row["size"]


@pytest.fixture
async def place(tmp_path: Path, registry: str) -> AsyncIterator[Place]:
    made = Place(tmp_path, registry, Wire())
    yield made
    made.workshop.close()


def patches(place: Place) -> int:
    return sum(line.startswith("PATCH") for line in place.wire.asked)


async def test_what_is_new_goes_as_it_is_made(place: Place) -> None:
    """Otherwise a first deployment waits for torch twice: while it is made, and again while it is sent."""
    image, notes = await place.build()
    assert notes.states["hello 1.0"] == notes.states["weights"] == "uploaded"
    package = notes.layers["hello 1.0"].digest
    assert f"HEAD /v2/{place.name}/model/blobs/{package}" not in place.wire.asked
    weights = notes.layers["weights"].digest
    assert f"HEAD /v2/{place.name}/model/blobs/{weights}" in place.wire.asked, "another machine may have sent these"
    await place.check(image)

    make_project(place.shared, {"w.pt": random.Random(3).randbytes(LARGE)})
    place.wire.asked.clear()
    image, notes = await place.build()
    assert notes.states["weights"] == "uploaded" and patches(place) == 1
    weights = notes.layers["weights"].digest
    assert f"HEAD /v2/{place.name}/model/blobs/{weights}" not in place.wire.asked
    await place.check(image)


@pytest.mark.parametrize("method", ["PATCH", "PUT"])
async def test_if_that_fails_it_is_sent_in_the_usual_way(place: Place, method: str) -> None:
    """Otherwise what saves a second loses a build."""
    failed: list[str] = []

    def refuse(request: httpx.Request) -> httpx.Response | None:
        whole = int(request.headers.get("content-length", 0)) > 0  # small layers go in one call
        if request.method == method and "/model/blobs/uploads/" in request.url.path and not whole and not failed:
            failed.append(request.url.path)
            return httpx.Response(400)
        return None

    place.wire.fault = refuse
    image, notes = await place.build(weights=())
    assert failed and notes.states["hello 1.0"] == "uploaded"
    await place.check(image)


async def test_a_line_that_breaks_is_no_matter(place: Place) -> None:
    broken: list[str] = []

    def cut(request: httpx.Request) -> httpx.Response | None:
        if request.method == "PATCH" and not broken:
            broken.append(request.url.path)
            raise httpx.WriteError("broken pipe")
        return None

    place.wire.fault = cut
    image, _ = await place.build()
    assert broken
    await place.check(image)


async def test_cancelling_leaves_nothing(place: Place) -> None:
    """Otherwise a stopped build goes on sending."""
    task: asyncio.Task[Any]
    loop = asyncio.get_running_loop()

    def at(happened: str) -> None:
        if happened == "wheel:building":
            loop.call_soon_threadsafe(task.cancel)

    task = asyncio.create_task(place.build(Notes(at)))
    with pytest.raises(asyncio.CancelledError):
        await task
    assert tags(place.registry, f"{place.name}/model") == []
    check_blobs(place.workshop.layout)
    image, _ = await place.build()
    await place.check(image)


async def test_what_the_cache_lost_is_still_there(place: Place) -> None:
    """The cache is bounded: a project that rests for a month must not send its weights again for one changed line."""
    await place.build()
    shutil.rmtree(place.workshop.folder / "layers")
    shutil.rmtree(place.workshop.layout.folder / "blobs" / "sha256")
    place.workshop.index.prepare()
    place.workshop.layout.prepare()
    make_project(place.shared, {"app.py": "print('changed')\n"})
    place.wire.asked.clear()
    place.wire.sent = 0
    _, notes = await place.build()
    assert (notes.layers["weights"].origin, notes.layers["hello 1.0"].origin) == ("reused", "reused")
    assert notes.states["program"] == "uploaded" and place.wire.sent < 10_000 and not patches(place)


async def test_a_file_is_read_while_it_grows(tmp_path: Path) -> None:
    """Each byte once and in order, wherever the two are."""
    data = random.Random(7).randbytes(5_000_001)
    path, done = tmp_path / "growing", bytearray()
    with GrowingFile() as growing, path.open("wb") as file:

        def write() -> None:
            growing.begin(path)
            sink = growing.grown(lambda piece: (file.write(piece), file.flush(), None)[2])
            for start in range(0, len(data), 70_000):
                sink(data[start : start + 70_000])
            path.rename(tmp_path / "moved")
            growing.end()

        async def read() -> None:
            await growing.begun.wait()
            async for piece in growing.pieces():
                done.extend(piece)

        await asyncio.gather(in_thread(lambda _: write()), read())
    assert bytes(done) == data
