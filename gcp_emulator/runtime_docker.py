"""A runtime for images with a base: containers of the Docker Engine, by its own program `docker`.

`docker run` stays in the foreground under our supervisor, and so ends when we do, as a process would. All files of the
image belong to root in the container. Limits of CPU and memory are not set.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
import tarfile
import time
from collections.abc import Sequence
from pathlib import Path

from gcp_emulator.run_names import short
from gcp_emulator.runtime_image import Image, Images
from gcp_emulator.runtime_process import ProcessInstance, ProcessRuntime, arguments, free_port, supervised
from gcp_emulator.runtime_protocol import CannotRun, Instance, Launch

_LONGEST_COMMAND = 60
LABEL = "gcp_emulator"
"""Of containers and images: the state's identity."""


class DockerInstance:
    """`docker run` in the foreground, and the container behind it."""

    def __init__(self, process: ProcessInstance, docker: Docker, name: str, address: tuple[str, int]) -> None:
        self._process = process
        self._address = address
        self._docker = docker
        self._name = name

    @property
    def address(self) -> tuple[str, int]:
        return self._address

    @property
    def status(self) -> int | None:
        return self._process.status

    async def stop(self, grace: float = 10.0) -> None:
        await self._process.stop(grace)
        await asyncio.to_thread(self._docker.run, "rm", "--force", "--volumes", self._name)


class Docker:
    """The program, for one Engine. All blocks."""

    def __init__(self, host: str, home: Path) -> None:
        self._program = shutil.which("docker")
        self._host = host
        self._home = home

    @property
    def env(self) -> dict[str, str]:
        return {"PATH": os.defpath, "HOME": str(self._home)}

    def argv(self, *words: str) -> list[str]:
        return [str(self._program), "-H", self._host, *words]

    def run(self, *words: str) -> str | None:
        """What it printed; None where it failed, or is not there."""
        if self._program is None:
            return None
        command = self.argv(*words)
        try:
            done = subprocess.run(
                command, env=self.env, capture_output=True, text=True, check=False, timeout=_LONGEST_COMMAND
            )
        except subprocess.TimeoutExpired:
            return None  # an Engine that hangs is as good as none
        return done.stdout.strip() if done.returncode == 0 else None

    def import_folder(self, root: Path, tag: str, identity: str) -> bool:
        """Make an image of one layer, from a folder that stands for `/`."""
        argv = self.argv("import", "--change", f"LABEL {LABEL}={identity}", "-", tag)
        with subprocess.Popen(argv, env=self.env, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL) as importing:
            assert importing.stdin is not None  # noqa: S101 - asked for above
            with tarfile.open(fileobj=importing.stdin, mode="w|") as tar:
                tar.add(root, arcname=".", filter=_of_root)
            importing.stdin.close()
            return importing.wait() == 0


class DockerRuntime:
    def __init__(self, folder: Path, identity: str, host: str) -> None:
        self._folder = folder
        self._identity = identity
        self._docker = Docker(host, folder)
        self._network = f"gcp-emulator-{identity}"  # one of its own: an Engine may have no default bridge
        self._importing = asyncio.Lock()
        self._used = False
        self._note = folder / "docker"  # whether a predecessor may have left something in the Engine

    async def available(self) -> bool:
        return await asyncio.to_thread(self._docker.run, "version", "--format", "{{.Server.Version}}") is not None

    async def start(self, launch: Launch, image: Image) -> DockerInstance:
        """Raises CannotRun."""
        tag = f"gcp-emulator-{self._identity}:{image.digest.rpartition(':')[2][:32]}"
        async with self._importing:
            await asyncio.to_thread(self._ensure, image, tag)
        starting = asyncio.ensure_future(asyncio.to_thread(self._start, launch, image, tag))
        try:
            return await asyncio.shield(starting)
        except asyncio.CancelledError:
            await (await starting).stop(0.0)  # a thread cannot be cancelled: what it started is ours to end
            raise

    async def sweep(self) -> None:
        if self._note.exists():
            await asyncio.to_thread(self._sweep)

    async def close(self) -> None:
        if self._used:
            await asyncio.to_thread(self._docker.run, "network", "rm", self._network)

    def _sweep(self) -> None:
        left = self._docker.run("ps", "--all", "--quiet", "--filter", f"label={LABEL}={self._identity}")
        if left:
            self._docker.run("rm", "--force", "--volumes", *left.split())
        self._docker.run("network", "rm", self._network)
        self._note.unlink()

    def _ensure(self, image: Image, tag: str) -> None:
        """The image and the network are there. Raises CannotRun."""
        if not self._used:
            self._note.touch()
            self._docker.run("network", "create", "--label", f"{LABEL}={self._identity}", self._network)
            self._used = True
        if self._docker.run("image", "inspect", tag) is not None:
            return
        if not self._docker.import_folder(image.root, tag, self._identity):
            raise CannotRun(f"the Docker Engine did not take the image {image.digest}")

    def _start(self, launch: Launch, image: Image, tag: str) -> DockerInstance:
        port = free_port()
        name = f"gcp-emulator-{self._identity}-{short(launch.revision)}-{port}"
        env = {**image.env, **dict(launch.env), "PORT": str(launch.port)}
        options = [
            *("--rm", "--init", "--name", name, "--label", f"{LABEL}={self._identity}"),
            *("--network", self._network, "--publish", f"127.0.0.1:{port}:{launch.port}"),
            *("--workdir", launch.working_dir or image.working_dir),
            *(word for key in env for word in ("--env", key)),  # the values come from its environment: ps shows none
            *(
                word
                for mount in launch.mounts
                for word in ("--volume", _volume(mount.source, mount.path, mount.read_only))
            ),
            *(("--user", image.user) if image.user else ()),
        ]
        words = self._command(arguments(image, launch), tag)
        process = supervised(
            self._docker.argv("run", *options, *words),
            env={**self._docker.env, **env},
            cwd=self._folder,
            port=port,
            log=self._folder / "logs" / f"{short(launch.revision)}.jsonl",
            identity=self._identity,
        )
        return DockerInstance(process, self._docker, name, self._address(process, name, launch.port))

    def _address(self, process: ProcessInstance, name: str, port: int) -> tuple[str, int]:
        """The container's own where this machine can reach it, for there nobody else answers: an Engine's proxy at a
        published port takes connections for a container that does not listen, or is not there yet."""
        asked = "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}"
        while sys.platform == "linux" and process.status is None:
            if found := self._docker.run("inspect", "--format", asked, name):
                return found, port
            time.sleep(0.05)
        return process.address

    @staticmethod
    def _command(argv: Sequence[str], tag: str) -> list[str]:
        """Raises CannotRun."""
        if not argv:
            raise CannotRun("the image names no program to run")
        return ["--entrypoint", argv[0], tag, *argv[1:]]


class EitherRuntime:
    """By what the image is, and what this machine has."""

    def __init__(self, images: Images, processes: ProcessRuntime, containers: DockerRuntime) -> None:
        self._images = images
        self._processes = processes
        self._containers = containers

    async def start(self, launch: Launch) -> Instance:
        image = await self._images.fetch(launch.image)
        if image.has_base and await self._containers.available():
            return await self._containers.start(launch, image)
        return await self._processes.start(launch, image)

    async def sweep(self) -> None:
        await self._processes.sweep()
        await self._containers.sweep()

    async def close(self) -> None:
        await self._processes.close()
        await self._containers.close()


def _volume(source: Path, path: str, read_only: bool) -> str:
    return f"{source.absolute()}:{path}{':ro' if read_only else ''}"


def _of_root(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = 0
    member.uname = member.gname = "root"
    return member
