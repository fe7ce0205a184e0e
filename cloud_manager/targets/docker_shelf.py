"""The images of a Docker Engine: what is there, by which name, and who uses it."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Collection, Mapping
from contextlib import aclosing, asynccontextmanager
from datetime import datetime
from typing import Any

from aiodocker import Docker, DockerError
from aiohttp import ClientTimeout

from cloud_manager.errors import DeployError
from cloud_manager.targets.docker_engine import Engine, EngineRefused
from cloud_manager.targets.docker_load import KeptImage, known_layers
from cloud_manager.targets.docker_progress import Transfer
from cloud_manager.targets.docker_pull import Downloads, error_in, in_one_line, pull_refused
from cloud_manager.targets.docker_reference import Reference
from cloud_manager.targets.docker_send import Stream

Found = Mapping[str, Any]
"""https://docs.docker.com/reference/api/engine/version/v1.41/#tag/Image/operation/ImageInspect"""

_MOST_INSPECTED = 100
_CONTAINERD = "io.containerd.snapshotter"
_STREAM = ClientTimeout(sock_connect=5)
"""Whoever reads has the patience."""


class Shelf:
    """Errors are those of `Engine.asked` where nothing else is said."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def find(self, name: str) -> Found | None:
        """By a name or an id."""
        try:
            async with self._engine.asked(f"inspect image {name}") as docker:
                return dict(await docker.images.inspect(name))
        except EngineRefused as error:
            if error.status == 404:
                return None
            raise

    async def call(self, source: str, name: Reference) -> bool:
        """Give an image a name, or give it again, which the engine notes the time of. False: there is no `source`."""
        try:
            async with self._engine.asked(f"tag image {source}") as docker:
                await docker.images.tag(source, name.name, tag=name.version)
        except EngineRefused as error:
            if error.status == 404:
                return False
            raise
        return True

    async def uncall(self, name: str) -> bool:
        """Take a name away; the image goes with its last one. False: a container uses it, or another image needs it."""
        try:
            async with self._engine.asked(f"remove image {name}") as docker:
                await docker.images.delete(name)
        except EngineRefused as error:
            if error.status in (404, 409):
                return error.status == 404
            raise
        return True

    async def rows(self) -> list[Found]:
        """As `docker images` lists them."""
        async with self._engine.asked("list images") as docker:
            return list(await docker.images.list())

    async def used(self) -> frozenset[str]:
        """Ids of the images that containers were made of, whoever made them, running or not."""
        async with self._engine.asked("list containers") as docker:
            return frozenset(str(row["ImageID"]) for row in await docker._query_json("containers/json?all=1"))

    async def known_layers(self, image: KeptImage) -> int:
        """How many of an image's lowest layers need not be sent. The images most like it are looked at first."""
        if await self._in_containerd():
            return 0  # it wants every file: containerd, core/images/archive/importer.go, resolveLayers
        labels = image.labels.items()
        rows = sorted(await self.rows(), key=lambda row: -len(labels & (row.get("Labels") or {}).items()))
        most = 0
        for row in rows[:_MOST_INSPECTED]:
            found = await self.find(str(row["Id"])) or {}
            most = max(most, known_layers(image.diff_ids, [layers_of(found)]))
            if most == len(image.diff_ids):
                break
        return most

    async def _in_containerd(self) -> bool:
        """https://docs.docker.com/engine/storage/containerd/"""
        info = await self._engine.info()
        return any(_CONTAINERD in str(value) for row in info.get("DriverStatus") or () for value in row)

    async def version(self) -> str:
        return str((await self._engine.info()).get("ServerVersion", ""))

    async def load(self, stream: Stream, progress: Transfer) -> None:
        """Send an archive. If that breaks off, or is cancelled, the engine has nothing of it.

        Raises:
            EngineRefused: with the engine's words.
            DeployError: why the archive broke off.
        """
        try:
            async with self._engine.asked("load an image") as docker:
                lines = _posted(docker, "images/load", {}, {"Content-Type": "application/x-tar"}, stream)
                async with aclosing(lines):
                    async for line in lines:
                        progress.alive()  # it unpacks
                        if words := error_in(line):
                            raise DockerError(500, in_one_line(words))
        except DeployError as error:
            raise (stream.failure or error) from error

    async def pull(self, reference: Reference, login: str | None, progress: Transfer) -> None:
        """login: value of X-Registry-Auth.

        Raises:
            TargetError: as `docker_pull.pull_refused` has it.
        """
        params = {"fromImage": reference.name, "tag": reference.version}
        headers = {"X-Registry-Auth": login} if login else {}
        downloads = Downloads()
        async with (
            self._engine.asked(f"pull {reference}") as docker,
            _refusals(reference),
            aclosing(_posted(docker, "images/create", params, headers)) as lines,
        ):
            async for line in lines:
                if words := error_in(line):
                    raise pull_refused(words, reference)
                downloads.add(line)
                progress.done, progress.total = downloads.done, downloads.total
                progress.alive()


@asynccontextmanager
async def _refusals(reference: Reference) -> AsyncGenerator[None, None]:
    try:
        yield
    except DockerError as error:
        if error.status == 900:  # aiodocker's for an engine that is away
            raise
        raise pull_refused(error.message, reference) from error


async def _posted(
    docker: Docker, path: str, params: Mapping[str, str], headers: Mapping[str, str], data: Any = None
) -> AsyncGenerator[dict[str, Any], None]:
    """The lines of the answer. aiodocker's own reading of them takes a connection that breaks for the answer's end,
    and leaves it open when it is cancelled; closed, the engine ends what it does for us.
    """
    chunked = True if data is not None else None
    query = docker._query(path, "POST", params=params, headers=headers, data=data, chunked=chunked, timeout=_STREAM)
    async with query as response:
        try:
            async for line in response.content:
                if line.strip():
                    yield json.loads(line)
        finally:
            response.close()


def layers_of(found: Found) -> tuple[str, ...]:
    """Diff ids, lowest first."""
    return tuple(found.get("RootFS", {}).get("Layers") or ())


def named_at(found: Found) -> float:
    """When it was last given a name, which we do at each use. Unix time; 0: never, or unknown."""
    try:
        return max(0.0, datetime.fromisoformat(found["Metadata"]["LastTagTime"]).timestamp())
    except (LookupError, TypeError, ValueError):
        return 0.0


def names_of(row: Found) -> Collection[str]:
    return [*(row.get("RepoTags") or ()), *(row.get("RepoDigests") or ())]
