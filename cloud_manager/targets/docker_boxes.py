"""The few things that are done to containers, networks and volumes of an Engine. What is gone already is no error."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from aiodocker import Docker

from cloud_manager.deployment import Key
from cloud_manager.errors import Unavailable
from cloud_manager.targets.docker_engine import Engine, EngineRefused, to_the_end
from cloud_manager.targets.docker_observation import FrontState, Trouble
from cloud_manager.targets.docker_snapshot import Snapshots
from cloud_manager.targets.docker_spec import FRONT_HOME, STOP_SECONDS
from cloud_manager.targets.docker_world import Box, World

_MIB = 1024 * 1024
_LAST_LINES = 5
_READS = 5


@dataclass(frozen=True, slots=True)
class File:
    """A file, or without content a folder, to be put into a container. path: relative to where it is put."""

    path: str
    content: bytes | None = None
    mode: int = 0o444
    owner: int = 0


class Boxes:
    def __init__(self, engine: Engine, snapshots: Snapshots) -> None:
        self._engine = engine
        self._snapshots = snapshots

    async def world(self, key: Key) -> World:
        """All of a project, seen after whatever was done here."""
        return await self._snapshots.world(key)

    async def create(self, name: str, request: Mapping[str, Any]) -> str:
        """The new container's id."""
        return await to_the_end(self._create(name, request))

    async def _create(self, name: str, request: Mapping[str, Any]) -> str:
        async with self._changing(f"create container {name}") as docker:
            return (await docker.containers.create(dict(request), name=name)).id

    async def start(self, container: str, name: str) -> None:
        async with self._changing(f"start container {name}") as docker:
            await docker.containers.container(container).start()

    async def stop(self, box: Box) -> None:
        """SIGTERM, and after a while SIGKILL; the Engine will not start it again."""
        async with self._changing(f"stop container {box.name}", missing_ok=True) as docker:
            await docker.containers.container(box.id).stop(t=STOP_SECONDS)

    async def remove(self, container: str, name: str) -> None:
        """At once, with its anonymous volumes."""
        async with self._changing(f"remove container {name}", missing_ok=True) as docker:
            await docker.containers.container(container).delete(force=True, v=True)

    async def restart_by(self, policy: Mapping[str, Any], container: str, name: str) -> None:
        """policy: as `RestartPolicy` of a container's request."""
        async with self._changing(f"update container {name}") as docker:
            # aiodocker has no call for it: https://docs.docker.com/reference/api/engine/version/v1.41/#operation/ContainerUpdate
            await docker._query_json(f"containers/{container}/update", "POST", data={"RestartPolicy": policy})

    async def put(self, container: str, name: str, folder: str, *files: File) -> None:
        async with self._changing(f"put files into container {name}") as docker:
            await docker.containers.container(container).put_archive(folder, _tar(files))  # type: ignore[no-untyped-call]

    async def create_network(self, request: Mapping[str, Any]) -> None:
        await to_the_end(self._create_network(request))

    async def _create_network(self, request: Mapping[str, Any]) -> None:
        async with self._changing(f"create network {request['Name']}") as docker:
            await docker.networks.create(dict(request))

    async def create_volume(self, request: Mapping[str, Any]) -> None:
        await to_the_end(self._create_volume(request))

    async def _create_volume(self, request: Mapping[str, Any]) -> None:
        async with self._changing(f"create volume {request['Name']}") as docker:
            await docker.volumes.create(dict(request))  # type: ignore[no-untyped-call]

    async def remove_network(self, name: str) -> None:
        async with self._changing(f"remove network {name}", missing_ok=True) as docker:
            await (await docker.networks.get(name)).delete()

    async def remove_volume(self, name: str) -> None:
        async with self._changing(f"remove volume {name}", missing_ok=True) as docker:
            await (await docker.volumes.get(name)).delete()  # type: ignore[no-untyped-call]

    async def inspect(self, box: Box) -> Mapping[str, Any] | None:
        """As `docker inspect`; None if it is gone."""
        try:
            async with self._engine.asked(f"inspect container {box.name}") as docker:
                return await docker.containers.container(box.id).show()
        except EngineRefused as error:
            if error.status == HTTPStatus.NOT_FOUND:
                return None
            raise

    async def front_state(self, box: Box) -> FrontState | None:
        """None while the front has nothing to say."""
        for _ in range(_READS):
            try:
                return await self._front_state(box)
            except (tarfile.TarError, ValueError):
                continue  # it was written anew while the Engine read it
        raise Unavailable(
            f"the front {box.name} tells nothing that can be read",
            "it is asked again by itself; if that does not help: docker restart it",
            code="front_unreadable",
        )

    async def _front_state(self, box: Box) -> FrontState | None:
        try:
            async with self._engine.asked(f"ask the front {box.name}") as docker:
                archive = await docker.containers.container(box.id).get_archive(f"{FRONT_HOME}/state.json")
        except EngineRefused as error:
            if error.status in (HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT):
                return None
            raise
        with archive:
            file = archive.extractfile("state.json")
            return FrontState.parse(box, json.loads(file.read())) if file else None

    async def trouble(self, box: Box) -> Trouble | None:
        """What the Engine and the program itself say of its end."""
        about = await self.inspect(box)
        if about is None:
            return None
        state = about["State"]
        return Trouble(
            exit_code=int(state["ExitCode"]),
            out_of_memory=bool(state["OOMKilled"]),
            memory=int(about["HostConfig"]["Memory"]) // _MIB,
            error=str(state.get("Error") or ""),
            lines=await self._last_lines(box),
        )

    async def _last_lines(self, box: Box) -> list[str]:
        async with self._engine.asked(f"logs of container {box.name}") as docker:
            container = docker.containers.container(box.id)
            text = "".join(await container.log(stdout=True, stderr=True, tail=_LAST_LINES))
        return [line.strip() for line in text.splitlines() if line.strip()][-_LAST_LINES:]

    @asynccontextmanager
    async def _changing(self, doing: str, *, missing_ok: bool = False) -> AsyncIterator[Docker]:
        """`Engine.asked`, after which older looks at the Engine are of no use."""
        try:
            async with self._engine.asked(doing) as docker:
                yield docker
        except EngineRefused as error:
            gone = error.status == HTTPStatus.NOT_FOUND or "already in progress" in error.problem.cause
            if not (missing_ok and gone):
                raise
        finally:
            self._snapshots.forget()


def _tar(files: tuple[File, ...]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for file in files:
            info = tarfile.TarInfo(file.path)
            info.mode, info.uid, info.gid = file.mode, file.owner, file.owner
            info.type, info.size = (
                (tarfile.DIRTYPE, 0) if file.content is None else (tarfile.REGTYPE, len(file.content))
            )
            tar.addfile(info, None if file.content is None else io.BytesIO(file.content))
    return buffer.getvalue()
