"""A base image is found, pinned and brought here whole, or the reason is told."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest

from image_builder.errors import BuildError
from image_builder.oci.base import BaseImage, fetch_layers, find_base
from image_builder.oci.layout import Layout
from image_builder.oci.registries import Registries
from tests.base_image import MANIFEST, PYTHON_TREE, tiny_base
from tests.image_builder.test_registry import Anonymous, Faulty, Slept

Fault = Callable[[httpx.Request], httpx.Response | None]


@asynccontextmanager
async def registries(fault: Fault = lambda _: None) -> AsyncIterator[Registries]:
    transport = Faulty(fault)
    async with Registries(lambda: httpx.AsyncClient(transport=transport), Anonymous(), sleep=Slept()) as known:
        yield known
    await transport.aclose()


@pytest.fixture
def name() -> str:
    return f"base/{secrets.token_hex(4)}"


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    made = Layout(tmp_path / "images")
    made.prepare()
    return made


async def find(reference: str, platform: str = "linux/amd64", fault: Fault = lambda _: None) -> BaseImage:
    async with registries(fault) as known:
        return await find_base(reference, platform, known)  # type: ignore[arg-type]


async def test_a_tag_is_pinned_and_its_layers_come(registry: str, name: str, layout: Layout) -> None:
    reference = tiny_base(registry, name, [PYTHON_TREE, {"etc": ("folder", 0o755)}], architectures=("arm64", "amd64"))
    async with registries() as known:
        base = await find_base(reference, "linux/arm64", known)
        assert base.reference == f"{registry}/{name}@{base.digest}"
        assert base.config["architecture"] == "arm64"
        assert await find_base(base.reference, "linux/arm64", known) == base
        here: dict[str, int] = {}
        await fetch_layers(base, layout, known, lambda layer, done: here.update({layer.digest: done}))
    assert here == {layer.digest: layer.size for layer in base.layers}
    assert all(layout.has(layer.digest) for layer in base.layers)


async def test_a_missing_platform_names_those_there_are(registry: str, name: str) -> None:
    reference = tiny_base(registry, name, architectures=("arm64", "s390x"))
    with pytest.raises(BuildError) as caught:
        await find(reference)
    assert caught.value.problem.code == "platform_not_in_base"
    assert "linux/arm64, linux/s390x" in caught.value.problem.cause


async def test_an_image_without_an_index_is_for_one_platform(registry: str, name: str) -> None:
    """Otherwise an amd64 base under an arm64 image fails only where it runs: exec format error."""
    base = await find(tiny_base(registry, name))
    with pytest.raises(BuildError) as caught:
        await find(base.reference, "linux/arm64")
    assert "only for linux/amd64" in caught.value.problem.cause


@pytest.mark.parametrize(("cut", "code"), [(0, "wrong_digest"), (100, "wrong_digest")])
async def test_a_damaged_layer_is_not_kept(registry: str, name: str, layout: Layout, cut: int, code: str) -> None:
    """Otherwise half a base is published under a good name."""
    base = await find(tiny_base(registry, name))

    def damaged(request: httpx.Request) -> httpx.Response | None:
        return httpx.Response(200, content=b"x" * cut) if base.layers[0].digest in request.url.path else None

    async with registries(damaged) as known:
        with pytest.raises(BuildError) as caught:
            await fetch_layers(base, layout, known)
    assert caught.value.problem.code == code
    assert [path.name for path in (layout.folder / "blobs" / "sha256").iterdir()] == []


@pytest.mark.parametrize("manifest", [b"{}", b"[]", b"no json", b'{"config": 3}', b'{"manifests": [{}]}'])
async def test_a_malformed_image_is_named(manifest: bytes) -> None:
    def answer(_: httpx.Request) -> httpx.Response:
        return httpx.Response(200, content=manifest, headers={"content-type": MANIFEST})

    with pytest.raises(BuildError) as caught:
        await find("registry.test/a:1", fault=answer)
    assert caught.value.problem.code == "bad_base_image"
    assert "registry.test/a:1" in caught.value.problem.cause
