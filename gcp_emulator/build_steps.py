"""One build from its source to its images, and what is said of it on the way, in Cloud Build's own words."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
from google.cloud.devtools.cloudbuild_v1 import types

from gcp_emulator.build_commands import Build as DockerBuild
from gcp_emulator.build_commands import Command, Pull, Push, Tag, bases, command_of, tagged, with_bases
from gcp_emulator.build_engine import NoEngine, Programs, Tool
from gcp_emulator.build_images import RegistryImages, RegistryRefused
from gcp_emulator.build_log import BuildLog
from gcp_emulator.build_source import NoSource, fetch
from gcp_emulator.build_store import BuildStore, Status
from gcp_emulator.storage_store import Store

Kind = types.Build.FailureInfo.FailureType
_TROUBLES = (NoEngine, RegistryRefused, httpx.TransportError, OSError)


class Failed(Exception):
    """The build's end. `str`: its status_detail."""

    def __init__(self, kind: Any, detail: str) -> None:
        super().__init__(detail)
        self.kind = kind


class Work:
    """A build's own folder and what it has made so far. All of it is gone when `close` returns."""

    def __init__(  # noqa: PLR0913 - what a build has to do with
        self, build: Any, *, folder: Path, log: BuildLog, store: BuildStore, objects: Store, programs: Programs,
        images: RegistryImages,
    ) -> None:  # fmt: skip
        self._build = build
        self._folder = folder
        self._workspace = folder / "workspace"
        self._log = log
        self._store = store
        self._objects = objects
        self._programs = programs
        self._images = images
        self._tool: Tool | None = None
        self._made: dict[str, str] = {}  # an image's name -> its tag in the engine
        self._tags: list[str] = []

    async def run(self) -> None:
        """Raises Failed."""
        await asyncio.to_thread(self._workspace.mkdir, parents=True)
        self._log.add(f'starting build "{self._build.id}"\n')
        if self._build.source.WhichOneof("source"):
            with self._timed("FETCHSOURCE"):
                self._log.add("FETCHSOURCE")
                await self._fetch()
        with self._timed("BUILD"):
            self._log.add("BUILD")
            for number in range(len(self._build.steps)):
                await self._step(number)
        if self._build.images:
            with self._timed("PUSH"):
                self._log.add("PUSH")
                await self._push_all()
        self._log.add("DONE")

    async def close(self) -> None:
        if self._tool is not None and self._tags:
            await self._program(self._tool.remove(self._folder, self._tags), "removed", quiet=True)

    async def _fetch(self) -> None:
        at = self._build.source_provenance.resolved_storage_source
        self._log.add(f"Fetching storage object: gs://{at.bucket}/{at.object_}#{at.generation}")
        try:
            await asyncio.to_thread(fetch, self._objects, at.bucket, at.object_, at.generation, self._workspace)
        except NoSource as error:
            raise self._failed(Kind.FETCH_SOURCE_FAILED, str(error)) from error

    async def _step(self, number: int) -> None:
        step = self._build.steps[number]
        title = f"Step #{number}" + (f' - "{step.id}"' if step.id else "")
        prefix = f"{title}: " if len(self._build.steps) > 1 else ""
        if prefix:
            self._log.add(f"Starting {title}")
        self._store.stamp(step.timing.start_time)
        self._log.add(f"{prefix}Already have image (with digest): {step.name}")
        step.exit_code = await self._within(step, number, prefix)
        self._store.stamp(step.timing.end_time)
        if prefix:
            self._log.add(f"Finished {title}")
        allowed = step.exit_code in step.allow_exit_codes or (step.allow_failure and not step.allow_exit_codes)
        step.status = Status.SUCCESS if step.exit_code == 0 else Status.FAILURE
        if step.exit_code and not allowed:
            words = f'build step {number} "{step.name}" failed: step exited with non-zero status: {step.exit_code}'
            raise self._failed(Kind.USER_BUILD_STEP, words)

    async def _within(self, step: Any, number: int, prefix: str) -> int:
        try:
            async with asyncio.timeout(step.timeout.seconds or None):
                return await self._do(command_of(step), number, prefix)
        except TimeoutError as error:
            step.status = Status.TIMEOUT
            words = f'build step {number} "{step.name}" failed: context deadline exceeded'
            raise self._failed(Kind.USER_BUILD_STEP, words) from error
        except _TROUBLES as error:
            self._log.add(f"{prefix}{error}")
            return 1

    async def _do(self, command: Command, number: int, prefix: str) -> int:
        """Exit status."""
        if isinstance(command, DockerBuild):
            return await self._docker_build(command, number, prefix)
        if isinstance(command, Tag) and command.source in self._made:
            self._made[command.target] = self._made[command.source]
            return 0
        if isinstance(command, Pull):
            self._made[command.image] = await self._load(command.image)
            return 0
        image = command.image if isinstance(command, Push) else command.source
        if image not in self._made:
            self._log.add(f"{prefix}An image does not exist locally with the tag: {image.rpartition(':')[0]}")
            return 1
        await self._push(image, prefix)
        return 0

    async def _docker_build(self, command: DockerBuild, number: int, prefix: str) -> int:
        tool = await self._ready()
        file = self._workspace / command.file
        if not await asyncio.to_thread(file.resolve().is_relative_to, self._workspace.resolve()):
            raise OSError(f"{command.file} leads out of the workspace")
        text = await asyncio.to_thread(file.read_text)
        names = {image: await self._load(tagged(image)) for image in bases(text)}
        if names:
            await asyncio.to_thread(file.write_text, with_bases(text, names))
        tag = self._new_tag()
        argv = tool.build(self._folder, command, tag)
        code = await self._program(argv, f"step-{number}", prefix, command.environment)
        if code == 0:
            self._made.update(dict.fromkeys(command.tags, tag))
        return code

    async def _load(self, image: str) -> str:
        """An image of the registry, in the engine; its tag there."""
        tool = await self._ready()
        tag, archive = self._new_tag(), self._folder / f"loaded-{len(self._tags)}.tar"
        self._log.add(f"Pulling {image}")
        await self._images.pull(image, tag, archive)
        if await self._program(tool.load(self._folder, archive), archive.stem, quiet=True):
            raise OSError(f"the engine does not take {image}")
        return tag

    async def _push_all(self) -> None:
        if missing := [image for image in self._build.images if tagged(image) not in self._made]:
            words = f"failed to find one or more images after execution of build steps: {missing}"
            raise self._failed(Kind.PUSH_IMAGE_NOT_FOUND, words)
        for image in self._build.images:
            built = self._build.results.images.add(name=image)
            self._store.stamp(built.push_timing.start_time)
            try:
                built.digest = await self._push(tagged(image), "")
            except RegistryRefused as error:
                kind = Kind.PUSH_NOT_AUTHORIZED if error.status in (401, 403) else Kind.PUSH_FAILED
                raise self._failed(kind, f"failed to push {image}: {error}") from error
            except _TROUBLES as error:
                raise self._failed(Kind.PUSH_FAILED, f"failed to push {image}: {error}") from error
            self._store.stamp(built.push_timing.end_time)

    async def _push(self, image: str, prefix: str) -> str:
        name, _, tag = image.rpartition(":")
        self._log.add(f"{prefix}The push refers to repository [{name}]")
        tool = await self._ready()
        archive = self._folder / f"pushed-{self._made[image].rpartition('-')[2]}.tar"
        if not await asyncio.to_thread(archive.exists):
            saved = tool.save(self._folder, self._made[image], archive)
            if await self._program(saved, f"save-{archive.stem}", quiet=True):
                raise OSError(f"the engine does not give {image}")
        digest = await self._images.push(image, archive)
        self._log.add(f"{prefix}{tag}: digest: {digest}")
        return digest

    async def _ready(self) -> Tool:
        if self._tool is None:
            self._tool = await self._programs.tool()
        return self._tool

    def _new_tag(self) -> str:
        tag = self._programs.tag(self._build.id, len(self._tags))
        self._tags.append(tag)
        return tag

    async def _program(
        self, argv: list[str], name: str, prefix: str = "", more: dict[str, str] | None = None, *, quiet: bool = False
    ) -> int:
        def told(line: str) -> None:
            if not quiet:
                self._log.add(f"{prefix}{line}")

        return await self._programs.run(argv, self._workspace, told, self._folder / f"{name}.jsonl", more)

    def _failed(self, kind: Any, words: str) -> Failed:
        self._log.add(f"ERROR\nERROR: {words}")
        return Failed(kind, words)

    @contextmanager
    def _timed(self, phase: str) -> Iterator[None]:
        timing = self._build.timing[phase]
        self._store.stamp(timing.start_time)
        try:
            yield
        finally:
            self._store.stamp(timing.end_time)
            self._store.put(self._build)
