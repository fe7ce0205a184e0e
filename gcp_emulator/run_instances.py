"""The running containers: one for each revision that must answer."""

from __future__ import annotations

import asyncio

from google.cloud import run_v2

from gcp_emulator.run_conditions import (
    Failure,
    did_not_listen,
    failed_probe,
    image_denied,
    image_missing,
    image_unusable,
    secret_missing,
)
from gcp_emulator.run_defaults import ingress_container
from gcp_emulator.run_launch import SecretMissing, Sources, launch_of, probe_of
from gcp_emulator.run_project import Project
from gcp_emulator.runtime_probe import comes_up
from gcp_emulator.runtime_protocol import CannotRun, ImageDenied, ImageMissing, Instance, Launch, Runtime

Address = tuple[str, int]


class DidNotStart(Exception):
    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.message)
        self.failure = failure


class Instances:
    def __init__(self, runtime: Runtime, project: Project, sources: Sources) -> None:
        self._runtime = runtime
        self._project = project
        self._sources = sources
        self._running: dict[str, Instance] = {}
        self._locks: dict[str, asyncio.Lock] = {}

    async def sweep(self) -> None:
        await self._runtime.sweep()

    async def ensure(self, revision: run_v2.Revision) -> Address:
        """Where the revision's container answers: started if none runs, e.g. because the last one ended.

        Raises DidNotStart.
        """
        async with self._locks.setdefault(revision.name, asyncio.Lock()):
            running = self._running.get(revision.name)
            if running is not None and running.status is None:
                return running.address
            await self._stop(revision.name)
            return await self._start(revision)

    async def stop(self, revision: str) -> None:
        """It need not run."""
        async with self._locks.setdefault(revision, asyncio.Lock()):
            await self._stop(revision)
        self._locks.pop(revision, None)

    async def close(self) -> None:
        await asyncio.gather(*(self.stop(name) for name in list(self._running)))
        await self._runtime.close()

    def running(self, service: str) -> list[str]:
        """Full names of a service's revisions that have a container."""
        return [name for name in self._running if name.startswith(f"{service}/revisions/")]

    async def _stop(self, revision: str) -> None:
        instance = self._running.pop(revision, None)
        if instance is not None:
            await instance.stop()

    async def _start(self, revision: run_v2.Revision) -> Address:
        instance = await self._launched(revision)
        self._running[revision.name] = instance
        try:
            up = await comes_up(instance, probe := probe_of(revision))
        except BaseException:
            await self._stop(revision.name)
            raise
        if not up:
            await self._stop(revision.name)
            where, port = self._project.where(revision.name), _port(revision)
            raise DidNotStart(did_not_listen(where, port) if probe.default else failed_probe(where))
        return instance.address

    async def _launched(self, revision: run_v2.Revision) -> Instance:
        where = self._project.where(revision.name)
        image = ingress_container(list(revision.containers)).image
        try:
            return await self._runtime.start(await asyncio.to_thread(self._launch, revision))
        except SecretMissing as error:
            raise DidNotStart(secret_missing(where, error.secret, error.version)) from error
        except ImageMissing as error:
            raise DidNotStart(image_missing(image)) from error
        except ImageDenied as error:
            raise DidNotStart(image_denied(where, image)) from error
        except (CannotRun, OSError) as error:
            raise DidNotStart(image_unusable(str(error))) from error

    def _launch(self, revision: run_v2.Revision) -> Launch:
        return launch_of(revision, self._sources)


def _port(revision: run_v2.Revision) -> int:
    return int(ingress_container(list(revision.containers)).ports[0].container_port)
