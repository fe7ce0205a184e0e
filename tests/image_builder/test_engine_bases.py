"""A base image that no registry gives is taken from the Docker Engine, and no other is."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from image_builder.base_step import Groundwork
from image_builder.engines.docker import Docker as Engine
from image_builder.engines.docker_api import DockerApi
from image_builder.engines.engine import Surroundings
from image_builder.errors import BuildError
from image_builder.oci.base import BaseImage
from image_builder.oci.layout import Layout
from image_builder.progress import LayerBoard
from tests.base_image import PYTHON_TREE, Tree, layer_of
from tests.conformance.docker_harness import Docker
from tests.image_builder.test_base import Fault, registries

pytestmark = pytest.mark.slow
PLATFORM = "linux/amd64"


def away(request: httpx.Request) -> httpx.Response:
    raise httpx.ConnectError("no route to host", request=request)


def has_none(_: httpx.Request) -> httpx.Response:
    return httpx.Response(404, json={"errors": [{"code": "MANIFEST_UNKNOWN"}]})


class Builder:
    """As much of a builder as a base needs, and an Engine with an image of the name `named`."""

    def __init__(self, folder: Path, docker: Docker, named: str) -> None:
        self.layout = Layout(folder / "images")
        self.layout.prepare()
        self.docker, self.named = docker, named
        self.folder, self.lines = folder, list[str]()

    def put(self, tree: Tree) -> str:
        """The image's id."""
        return self.docker("import", "-c", "ENV PATH=/usr/local/bin", "-", self.named, data=layer_of(tree))

    async def found(self, fault: Fault, *, host: str = "") -> BaseImage:
        engine = Engine(
            DockerApi({"DOCKER_HOST": host or self.docker.host}), self.layout, self.folder / "runs", Surroundings({})
        )
        async with registries(fault) as known:
            board = LayerBoard(lambda _: None)
            ground = Groundwork(self.layout, self.folder / "bases", known, board, [engine])
            base = await ground.found(self.named, PLATFORM, self.lines.append)
            await ground.lay(base, "3.11")
        return base


@pytest.fixture
def builder(docker_engine: str, tmp_path: Path) -> Iterator[Builder]:
    docker = Docker(docker_engine)
    made = Builder(tmp_path, docker, f"127.0.0.1:1/{secrets.token_hex(4)}:it")
    made.put(PYTHON_TREE)
    yield made
    docker("rmi", "-f", made.named)


async def test_behind_a_firewall_the_engines_image_serves(builder: Builder) -> None:
    """Else nothing could be deployed to a machine that has all that it takes."""
    first = await builder.found(away)
    assert first.reference == builder.named
    assert [layer.digest for layer in first.layers] == first.config["rootfs"]["diff_ids"]
    assert "is taken from the Docker Engine" in builder.lines[-1]
    assert await builder.found(away) == first
    changed = builder.put(PYTHON_TREE | {"etc": ("folder", 0o755)})
    assert (await builder.found(away)).digest == changed, "the tag means what it means now"


async def test_what_was_made_in_the_engine_is_there_though_no_registry_has_it(builder: Builder) -> None:
    assert (await builder.found(has_none)).reference == builder.named


async def test_what_a_registry_refuses_is_not_had_by_the_back_door(
    builder: Builder, docker_base: str, base_image: str
) -> None:
    """An image that somebody else has pulled into the Engine may be one that this builder must not have."""
    builder.named = base_image
    for code in (401, 404):
        with pytest.raises(BuildError):
            await builder.found(lambda _, code=code: httpx.Response(code))  # type: ignore[misc]
    builder.named = f"127.0.0.1:1/{secrets.token_hex(4)}:it"


async def test_without_an_engine_the_registrys_own_error_is_told(builder: Builder) -> None:
    with pytest.raises(BuildError, match=r"the registry 127\.0\.0\.1:1 does not answer"):
        await builder.found(away, host="unix:///nowhere/docker.sock")
    builder.docker("rmi", builder.named)
    with pytest.raises(BuildError, match=r"the registry 127\.0\.0\.1:1 does not answer"):
        await builder.found(away)
    builder.put(PYTHON_TREE)
