"""What the tests of engines share: a real base in a layout, an engine over it, and eyes of its own on both."""

from __future__ import annotations

import asyncio
import os
import secrets
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import psutil

from image_builder.engines.apt import system_packages
from image_builder.engines.buildah import Buildah
from image_builder.engines.docker import Docker
from image_builder.engines.docker_api import DockerApi
from image_builder.engines.docker_archive import archive
from image_builder.engines.engine import Engine, Surroundings
from image_builder.engines.oci_folder import write_base
from image_builder.engines.processes import MARK
from image_builder.layers.index import Layer
from image_builder.network import registry_client
from image_builder.oci.base import BaseImage, BaseLayer, fetch_layers, find_base
from image_builder.oci.image import LAYER_TYPE, canonical
from image_builder.oci.layout import Layout
from image_builder.oci.registries import Registries
from tests import needs

ENGINES = ("docker", "buildah")


@dataclass
class Bench:
    """One engine, and what it was told. brought: how often the base's bytes were asked for."""

    engine: Engine
    layout: Layout
    folder: Path
    base: BaseImage
    reference: str
    docker_host: str = ""
    brought: int = 0
    lines: list[str] = field(default_factory=list)
    at: Callable[[str], object] = lambda _: None

    async def bring(self) -> None:
        self.brought += 1
        async with registries() as known:
            await fetch_layers(self.base, self.layout, known)

    def log(self, line: str) -> None:
        self.lines.append(line)
        self.at(line)

    async def install(self, *packages: str) -> Layer:
        return await self.engine.with_packages(self.base, self.bring, system_packages(packages), self.log)

    def leftovers(self) -> list[str]:
        """Containers, images, mounts, processes and files of runs."""
        mounts = [row.mountpoint for row in psutil.disk_partitions(all=True) if str(self.folder) in row.mountpoint]
        files = [str(path) for path in self.folder.glob("*")]
        return [*mounts, *files, *self._processes(), *(self._in_docker() if self.docker_host else [])]

    def _processes(self) -> list[str]:
        found = []
        for process in psutil.process_iter():
            try:
                if str(self.folder) in " ".join(process.cmdline()) or self._is_marked(process):
                    found.append(str(process))
            except psutil.Error:
                continue
        return found

    def _is_marked(self, process: psutil.Process) -> bool:
        return self.engine.name == "buildah" and process.environ().get(MARK) in {
            path.name for path in self.folder.glob("*")
        }

    def _in_docker(self) -> list[str]:
        shown = self.docker("ps", "-a", "--filter", "label=io.tango.cloud-deploy.build", "-q").split()
        return [*shown, *self.docker("images", "cloud-deploy-run", "-q").split()]

    def docker(self, *words: str) -> str:
        done = subprocess.run(
            [needs.program("docker"), "-H", self.docker_host, *words], capture_output=True, text=True, check=True
        )
        return done.stdout

    def with_layer(self, layer: Layer) -> BaseImage:
        """The base with what was put on it, as an image that others can read."""
        rootfs = {"type": "layers", "diff_ids": [*(row.diff_id for row in self.base.layers), layer.diff_id]}
        top = BaseLayer(layer.digest, layer.diff_id, layer.size, LAYER_TYPE)
        config = {**self.base.config, "rootfs": rootfs, "history": []}
        return replace(self.base, config=config, layers=(*self.base.layers, top))

    async def run(self, image: BaseImage, *argv: str) -> str:
        """What a program of the image says: in a container, or in a chroot where the engine is buildah."""
        async with registries() as known:  # an engine that has the base already did not ask for its bytes
            await fetch_layers(self.base, self.layout, known)
        if self.docker_host:
            return self._run_in_docker(image, argv)
        folder = self.layout.folder.parent / f"seen-{secrets.token_hex(4)}"
        write_base(image, self.layout, folder)
        unpacked = folder / "unpacked"
        subprocess.run(
            [needs.program("umoci"), "unpack", "--image", f"{folder}:it", unpacked], check=True, capture_output=True
        )
        done = subprocess.run(["chroot", unpacked / "rootfs", *argv], capture_output=True, text=True, check=True)
        return done.stdout

    def _run_in_docker(self, image: BaseImage, argv: Sequence[str]) -> str:
        tag = f"cloud-deploy-test:{secrets.token_hex(6)}"
        data = b"".join(archive(canonical(image.config), image.layers, self.layout, tag))
        load = [needs.program("docker"), "-H", self.docker_host, "load", "-q"]
        subprocess.run(load, input=data, check=True, capture_output=True)
        try:
            return self.docker("run", "--rm", "--network", "none", "--entrypoint", argv[0], tag, *argv[1:])
        finally:
            self.docker("rmi", tag)


class Anonymous:
    async def find(self, registry: str) -> None:
        return None


def registries() -> Registries:
    return Registries(lambda: registry_client({}), Anonymous())


def around(**more: str) -> Surroundings:
    """As on this machine: its own network, and its certificates where it names any."""
    ca = os.environ.get("SSL_CERT_FILE")
    return Surroundings({**os.environ, **more}, "host", Path(ca) if ca else None)


async def make_bench(name: str, base: str, folder: Path, docker_host: str, lent: Surroundings | None = None) -> Bench:
    layout = Layout(folder / "images")
    layout.prepare()
    runs = folder / "runs"
    lent = lent or around()
    engine: Engine
    if name == "docker":
        engine = Docker(DockerApi({"DOCKER_HOST": docker_host}), layout, runs, lent)
    else:
        needs.root_on_linux("buildah --isolation chroot")
        needs.program("buildah")
        engine = Buildah(layout, runs, lent)
    async with registries() as known:
        found = await find_base(base, "linux/amd64", known)
    return Bench(engine, layout, runs, found, base, docker_host if name == "docker" else "")


async def _mortal(name: str, base: str, folder: str, docker_host: str) -> None:
    """A builder that tells when it unpacks a package, so that it can be killed there."""
    bench = await make_bench(name, base, Path(folder), docker_host)
    bench.at = lambda line: (sys.stdout.write(f"{line}\n"), sys.stdout.flush())
    await bench.install("hello")


if __name__ == "__main__":
    asyncio.run(_mortal(*sys.argv[1:]))
