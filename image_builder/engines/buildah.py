"""Buildah as a build engine: no daemon, and with `--isolation chroot` no rights that a container lacks.

Each run has a storage of its own below the builder's folder. The network is the host's: chroot knows no other.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import BinaryIO

import psutil

from image_builder.engines import apt
from image_builder.engines.apt import SystemPackage
from image_builder.engines.context import DOCKERFILE, Context, context_folder
from image_builder.engines.diff import apt_layer, carried_layer, empty_layer
from image_builder.engines.engine import Bring, Built, Log, Surroundings, dockerfile_failed, engine_failed
from image_builder.engines.oci_folder import read_image, write_base
from image_builder.engines.process import watch
from image_builder.engines.processes import MARK, kill_marked
from image_builder.engines.runs import Run, Runs
from image_builder.layers.index import Layer
from image_builder.oci.base import BaseImage
from image_builder.oci.compression import BROKEN, open_tar
from image_builder.oci.layout import Layout
from image_builder.work import StopFlag, in_thread, to_the_end

_ISOLATION = ("--isolation", "chroot")
_CONTAINER = "it"


class Buildah:
    """Implements `Engine`. folder: for its runs, below the builder's own."""

    name = "buildah"

    def __init__(self, layout: Layout, folder: Path, around: Surroundings) -> None:
        self._layout = layout
        self._runs = Runs(folder)
        self._around = around

    async def available(self) -> str | None:
        if shutil.which("buildah", path=self._around.environ.get("PATH")) is None:
            return "buildah: it is not installed"
        if os.geteuid() != 0:
            return "buildah: the image builder does not run as root"
        return None

    async def with_packages(self, base: BaseImage, bring: Bring, packages: Sequence[SystemPackage], log: Log) -> Layer:
        await bring()
        async with self._run() as run:
            await in_thread(lambda _: write_base(base, self._layout, run.folder / "base"))
            log("buildah: unpacking the base image")
            await self._buildah(run, ["from", "--name", _CONTAINER, f"oci:{run.folder / 'base'}:it"])
            await self._lend(run)
            for argv in apt.commands(packages, ca=self._around.ca is not None):
                code, said = await self._in_container(run, argv, log)
                if code != 0:
                    raise apt.failure(said, packages)
            await self._buildah(run, ["commit", "-q", "-D", _CONTAINER, f"oci:{run.folder / 'made'}:it"])
            return await in_thread(lambda flag: self._newest_layer(run, len(base.layers), flag))

    async def build_dockerfile(self, context: Context, log: Log) -> Built:
        async with self._run() as run:
            await in_thread(lambda _: context_folder(context, run.folder / "context"))
            argv = ["build", *_ISOLATION, "--platform", context.platform, "-t", _CONTAINER, "-f", DOCKERFILE, "."]
            code, said = await self._watch(run, argv, lambda line: log(f"buildah: {line}"), "context")
            if code != 0:
                lines = [line for line in said.splitlines() if line.strip()] or ["it said nothing"]
                raise dockerfile_failed(self.name, lines[-1], lines[-2:-1])
            await self._buildah(run, ["push", "-q", "-D", _CONTAINER, f"oci:{run.folder / 'made'}:it"])
            return await in_thread(lambda flag: self._whole(run, flag))

    async def sweep(self) -> None:
        for run in await in_thread(lambda _: self._runs.dead()):
            await self._clear(run)

    @asynccontextmanager
    async def _run(self) -> AsyncIterator[Run]:
        """When this is left, however it is left, nothing of the run is there."""
        with self._runs.begin() as run:
            try:
                yield run
            finally:
                await to_the_end(self._clear(run))

    async def _clear(self, run: Run) -> None:
        await in_thread(lambda _: _clear(run))
        await in_thread(lambda _: self._runs.forget(run))

    async def _lend(self, run: Run) -> None:
        """What is there for the run only; `diff` leaves it out."""
        policy = run.folder / "policy-rc.d"
        await in_thread(lambda _: policy.write_bytes(apt.POLICY))
        await self._buildah(run, ["copy", "-q", "--chmod", "0755", _CONTAINER, str(policy), apt.POLICY_FILE])

    async def _in_container(self, run: Run, argv: Sequence[str], log: Log) -> tuple[int, str]:
        """Values go by the environment: an argument can be read by everyone on the machine."""
        ca = self._around.ca
        environ = {**apt.environment(self._around.environ, ca=ca is not None), MARK: run.id}
        lent = ("--volume", f"{ca}:{apt.CA_FILE}:ro") if ca else ()
        names = [word for name in environ for word in ("--env", name)]
        return await self._watch(
            run,
            ["run", *_ISOLATION, "--user", "0", *lent, *names, _CONTAINER, "--", *argv],
            lambda line: log(f"{argv[0]}: {line}"),
            more=environ,
        )

    async def _buildah(self, run: Run, argv: Sequence[str]) -> None:
        code, said = await self._watch(run, argv, lambda _: None)
        if code != 0:
            raise engine_failed(self.name, (said.strip().splitlines() or [f"exit code {code}"])[-1])

    async def _watch(
        self, run: Run, argv: Sequence[str], told: Log, folder: str = ".", more: dict[str, str] | None = None
    ) -> tuple[int, str]:
        places = ["--root", str(run.folder / "storage"), "--runroot", str(run.folder / "running")]
        environ = {**self._around.environ, "TMPDIR": str(run.folder), **(more or {})}
        try:
            return await watch(["buildah", *places, *argv], environ, run.folder / folder, run.id, told)
        except OSError as error:
            raise engine_failed(self.name, str(error)) from error

    def _newest_layer(self, run: Run, below: int, flag: StopFlag) -> Layer:
        _config, rows = read_image(run.folder / "made")
        if len(rows) <= below:
            return empty_layer(self._layout)
        return self._layer(rows[-1], apt_layer, flag)

    def _whole(self, run: Run, flag: StopFlag) -> Built:
        config, rows = read_image(run.folder / "made")
        return Built(config, tuple(self._layer(row, carried_layer, flag) for row in rows))

    def _layer(self, file: Path, make: Callable[[BinaryIO, Layout, StopFlag], Layer], flag: StopFlag) -> Layer:
        try:
            with open_tar(file) as tar:
                return make(tar, self._layout, flag)
        except BROKEN as error:
            raise engine_failed(self.name, f"it made what is not understood: {error}") from error


def _clear(run: Run) -> None:
    """Blocking. Processes first: they use the mounts, and those hold the folder."""
    kill_marked(run.id)
    top = f"{run.folder.resolve()}/"
    mounts = [row.mountpoint for row in psutil.disk_partitions(all=True) if row.mountpoint.startswith(top)]
    for mount in sorted(mounts, reverse=True):
        subprocess.run(["umount", "--lazy", mount], check=False, capture_output=True)
