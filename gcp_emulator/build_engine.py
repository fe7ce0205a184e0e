"""What runs `docker build` for a step: the Docker Engine by its own program, else buildah.

Each program runs under our supervisor, and so ends when we do. Steps have this machine's network. What a build leaves
in the engine is its cache alone.
"""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import shutil
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from gcp_emulator.build_commands import Build
from gcp_emulator.runtime_process import MARK, kill_carriers

Log = Callable[[str], None]
_SUPERVISOR = Path(__file__).with_name("runtime_supervisor.py")
_GRACE = "5"
_LOOK = 0.05


class Tool(Protocol):
    """Command lines. `folder` is the build's own; a tag names an image in the engine while the build needs it."""

    def build(self, folder: Path, build: Build, tag: str) -> list[str]: ...

    def save(self, folder: Path, tag: str, archive: Path) -> list[str]:
        """The image as `docker save` writes it."""
        ...

    def load(self, folder: Path, archive: Path) -> list[str]: ...

    def remove(self, folder: Path, tags: Sequence[str]) -> list[str]: ...


class DockerTool:
    def __init__(self, host: str) -> None:
        self._docker = ["docker", "-H", host]

    def check(self) -> list[str]:
        return [*self._docker, "version", "--format", "{{.Server.Version}}"]

    def build(self, folder: Path, build: Build, tag: str) -> list[str]:
        more = ["--network", "host", "--force-rm", "--tag", tag, "--file", build.file, *build.options]
        return [*self._docker, "build", *more, "--", build.context]

    def save(self, folder: Path, tag: str, archive: Path) -> list[str]:
        return [*self._docker, "save", "--output", str(archive), tag]

    def load(self, folder: Path, archive: Path) -> list[str]:
        return [*self._docker, "load", "--quiet", "--input", str(archive)]

    def remove(self, folder: Path, tags: Sequence[str]) -> list[str]:
        return [*self._docker, "rmi", "--no-prune", *tags]


class BuildahTool:
    """Needs to be root. Its images lie in the build's folder, and go with it."""

    def build(self, folder: Path, build: Build, tag: str) -> list[str]:
        more = ["--isolation", "chroot", "--format", "docker", "--tag", tag, "--file", build.file, *build.options]
        return [*self._buildah(folder), "build", *more, build.context]

    def save(self, folder: Path, tag: str, archive: Path) -> list[str]:
        return [*self._buildah(folder), "push", "--quiet", tag, f"docker-archive:{archive}:{tag}"]

    def load(self, folder: Path, archive: Path) -> list[str]:
        return [*self._buildah(folder), "pull", "--quiet", f"docker-archive:{archive}"]

    def remove(self, folder: Path, tags: Sequence[str]) -> list[str]:
        return [*self._buildah(folder), "rmi", *tags]

    def _buildah(self, folder: Path) -> list[str]:
        return ["buildah", "--root", str(folder / "storage"), "--runroot", str(folder / "running")]


class NoEngine(Exception):
    """There is nothing here that runs a step; the words say what was looked for."""


class Programs:
    """Runs them. identity: of the state, so that a sweep finds what belongs to it and nothing else."""

    def __init__(self, identity: str, home: Path, docker_host: str) -> None:
        self._identity = identity
        self._home = home
        self._host = docker_host

    async def tool(self) -> Tool:
        """Raises NoEngine."""
        docker = DockerTool(self._host)
        if shutil.which("docker") and await self._answers(docker.check()):
            return docker
        if shutil.which("buildah") and os.geteuid() == 0:
            return BuildahTool()
        raise NoEngine(f"gcp_emulator needs a Docker Engine at {self._host}, or buildah as root, to run a step")

    def tag(self, build: str, number: int) -> str:
        return f"localhost/gcp-emulator-{self._identity}:{build}-{number}"

    async def sweep(self) -> None:
        """Kill what a predecessor of ours left running, and take its images away."""
        await asyncio.to_thread(kill_carriers, self._identity)
        docker = ["docker", "-H", self._host]
        if shutil.which("docker"):
            asked = ["images", "--format", "{{.Repository}}:{{.Tag}}", f"localhost/gcp-emulator-{self._identity}"]
            if tags := (await self._output([*docker, *asked])).split():
                await self._output([*docker, "rmi", "--no-prune", *tags])

    async def run(
        self, argv: Sequence[str], cwd: Path, log: Log, notes: Path, more: Mapping[str, str] | None = None
    ) -> int:
        """Exit status. notes: a file of its own. Cancelled, or ended: nothing of it runs any more."""
        mark = f"{self._identity}.{secrets.token_hex(8)}"
        await asyncio.to_thread(notes.touch)
        supervised = [sys.executable, "-I", "-S", str(_SUPERVISOR), str(notes), _GRACE, "--", *argv]
        process = await asyncio.create_subprocess_exec(
            *supervised, cwd=cwd, env=self._environment({**(more or {}), MARK: mark}),
            stdin=PIPE, stdout=DEVNULL, stderr=DEVNULL,
        )  # fmt: skip
        try:
            return await _followed(process, notes, log)
        finally:
            await asyncio.shield(_ended(process, mark))

    async def _answers(self, argv: Sequence[str]) -> bool:
        return bool(await self._output(argv))

    async def _output(self, argv: Sequence[str]) -> str:
        process = await asyncio.create_subprocess_exec(
            *argv, env=self._environment({}), stdin=DEVNULL, stdout=PIPE, stderr=DEVNULL
        )
        try:
            out, _ = await process.communicate()
        finally:
            if process.returncode is None:  # cancelled
                process.kill()
                await process.wait()
        return out.decode().strip()

    def _environment(self, more: Mapping[str, str]) -> dict[str, str]:
        return {"PATH": f"{os.defpath}:/usr/local/bin", "HOME": str(self._home), "DOCKER_BUILDKIT": "0", **more}


async def _followed(process: Process, notes: Path, log: Log) -> int:
    with notes.open(encoding="utf-8") as lines:
        waiting = asyncio.ensure_future(process.wait())
        rest = ""
        while True:
            ended = waiting.done()
            *whole, rest = (rest + lines.read()).split("\n")
            for line in whole:
                log(str(json.loads(line)["text"]))
            if ended:
                return waiting.result()
            await asyncio.wait([waiting], timeout=_LOOK)


async def _ended(process: Process, mark: str) -> None:
    if process.stdin is not None:
        process.stdin.close()  # to the supervisor that is the word to stop
    await process.wait()
    await asyncio.to_thread(kill_carriers, mark)
