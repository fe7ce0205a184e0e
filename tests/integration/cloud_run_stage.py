"""A controller before the twin of Google, over real gRPC in one process, driven step by step; it may die at any call.

Containers are replaced by loopback servers (`LoopbackRuntime`), so that whole lives take a fraction of a second.
"""

from __future__ import annotations

import itertools
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import grpc
from google.api_core.exceptions import GoogleAPICallError
from google.auth.credentials import AnonymousCredentials
from google.cloud import run_v2

from cloud_manager.board import Board
from cloud_manager.controller import Controller
from cloud_manager.deployment import Deployment, Key, Phase, Want
from cloud_manager.deployment_spec import DeploymentSpec
from cloud_manager.errors import DeployError
from cloud_manager.targets.cloud_run import CloudRunTarget
from cloud_manager.targets.cloud_run_cloud import Cloud
from cloud_manager.targets.cloud_run_place import Place
from cloud_manager.targets.cloud_run_spec import is_ours
from gcp_emulator.run_store import RunStore
from tests.cloud_manager.mortal import Fuse, Killed, Mortal
from tests.cloud_manager.stage import KEY, RESYNC, Shelf, Stage
from tests.conformance.harness import until
from tests.fakes.memory_store import MemoryStore
from tests.gcp_emulator.run_stock import IMAGE, Stock

_regions = itertools.count(1)


def wish(version: str = "one", image: str = IMAGE) -> DeploymentSpec:
    deploy = {"type": "gcp-cloudrun", "public": True, "env": {"VERSION": version}}
    return DeploymentSpec.model_validate({"build": {"image_uri": image}, "deploy": deploy})


BROKEN = wish("broken", IMAGE.replace("hello", "crashes"))


async def _nothing() -> None:
    pass


@dataclass
class LateFuse(Fuse):
    """The process dies, but its last call is on its way, and arrives so many seconds later."""

    seconds: float = 0.0
    call: Callable[[], Awaitable[Any]] | None = None

    async def burn(self, call: Callable[[], Awaitable[Any]]) -> Any:
        if not self.blown and self.calls == self.at:
            self.call = call
        return await super().burn(call)


@dataclass
class Hook(Fuse):
    """Nobody dies; the world changes before a call."""

    number: int = 0
    do: Callable[[], Awaitable[Any]] = _nothing

    async def burn(self, call: Callable[[], Awaitable[Any]]) -> Any:
        if self.calls + 1 == self.number:
            await self.do()
        return await super().burn(call)


class GoogleStage(Stage):
    """One project in a region of its own. After a death it goes on with a new manager over the same store."""

    def __init__(self, google: Stock, fuse: Fuse | None = None, *, store_dies: bool = True) -> None:
        self.google = google
        self.fuse = fuse or Fuse(at=-1, when="before")
        self.deaths = 0
        self._late: tuple[float, Callable[[], Awaitable[Any]]] | None = None
        self.meddled = False
        """Somebody else was at the service, and no look since has been answered."""
        self.uids: set[str] = set()
        """Of all services of ours that there ever were."""
        self.place = Place("twin-project", f"us-test{next(_regions)}")
        self.services = RunStore(google.twin.state)
        self._store_dies = store_dies
        self.period = 0.0
        """For which a look at all services is good enough, from the next `restart` on."""
        super().__init__()

    def restart(self) -> None:
        self.memory.owned.clear()
        self.store, self.board = MemoryStore(self.memory), Board()
        self.target = CloudRunTarget(self.place, self.clock, period=self.period, connect=self._connect)
        self.targets = Shelf({"gcp-cloudrun": self.target})
        store: Any = Mortal(self.store, self.fuse) if self._store_dies else self.store
        self.controller = Controller(
            store,
            self.board,
            _NoBuilder(),  # type: ignore[arg-type]
            self.targets,
            self.clock,
            shared_root=Path("/nowhere"),
            resync_seconds=RESYNC,
        )

    async def _connect(self, place: Place) -> Cloud:
        def channel(_: Any, *__: Any, **___: Any) -> grpc.aio.Channel:
            return self.google.channel

        part: Any = Mortal(Cloud(place, AnonymousCredentials(), channel), self.fuse)  # type: ignore[no-untyped-call]
        return part  # type: ignore[no-any-return]

    async def step(self, key: Key = KEY) -> Deployment:
        before = self.meddled
        await self.arrive(until=self.row(key).due)
        try:
            row = await super().step(key)
            self.meddled = self.meddled and (not before or row.tries > 0)
        except Killed:
            row = self._died(key)
        await self.look(row)
        return row

    def _died(self, key: Key) -> Deployment:
        self.deaths += 1
        if isinstance(self.fuse, LateFuse) and self.fuse.call is not None:
            self._late = (self.clock.now() + self.fuse.seconds, self.fuse.call)
        self.fuse = Fuse(at=-1, when="before")
        self.restart()
        return self.row(key)

    async def arrive(self, *, until: float) -> None:
        """What a dead process sent arrives, if it is time; nobody hears the answer."""
        if self._late is not None and self._late[0] <= until:
            (_, call), self._late = self._late, None
            with suppress(DeployError):
                await call()

    async def steps(self, count: int) -> None:
        for _ in range(count):
            await self.step()

    def slow(self, what: str, seconds: float = 0.0) -> None:
        """The next `revision` or `deletion` here takes so long; without a number, it never ends."""
        self.google.fail(call=what, resource=f"*/{self.place.region}/*", seconds=seconds, forever=not seconds)

    def hurry(self) -> None:
        """From now on nothing is slow that has not begun."""
        faults = self.google.twin.faults
        if any(rule.forever for rule in faults.rules):
            faults.replace([rule for rule in faults.rules if not rule.forever])

    async def deleted_by_hand(self) -> None:
        """In the console, by somebody who tries again when told of a fault."""
        for service in [*self.ours(), *self.ours()]:
            with suppress(GoogleAPICallError):
                await self.google.services.delete_service(name=service.name)
        await self.gone()
        self.meddled = True

    async def gone(self) -> None:
        """Until Google has no service of ours."""
        await until(self._nothing, "the service is gone", seconds=10)

    async def _nothing(self) -> bool:
        return not self.ours()

    async def look(self, row: Deployment) -> None:
        """What must hold at every moment: never two services, never `running` that does not answer."""
        there = self.ours()
        self.uids |= {service.uid for service in there}
        assert len(there) <= 1, f"two services: {[service.name for service in there]}"
        if row.phase is Phase.RUNNING and row.want is Want.PRESENT and not self.meddled:
            assert await self.answer() is not None, f"running, but nothing answers:\n{self.told()}"

    def ours(self) -> list[run_v2.Service]:
        services = self.services.services(self.place.parent(self.place.region))
        return [service for service in services if is_ours(service, KEY)]

    def name(self) -> str:
        """Short name of the project's service."""
        return self.place.service(KEY, wish()).rsplit("/", 1)[-1]

    def service(self, name: str) -> run_v2.Service | None:
        return self.services.service(f"{self.place.parent(self.place.region)}/services/{name}")

    def before_call(self, number: int, do: Callable[[], Awaitable[Any]]) -> None:
        """Something happens just before the manager's call to Google of this number, counted from now."""
        self._store_dies = False
        self.fuse = Hook(-1, "before", number=number, do=do)
        self.restart()

    async def answer(self) -> str | None:
        """The revision that answers at the address of the row."""
        host = urlsplit(self.row().facts.url or "").netloc
        answer = await self.google.web.get("https://twin/", headers={"host": host})
        return answer.text if answer.status_code == 200 else None

    async def is_as_wished(self, version: str | None) -> bool:
        """Exactly one service, which answers with the newest revision; or nothing. version: None for nothing."""
        row, there = self.row(), self.ours()
        if version is None:
            return row.phase is Phase.STOPPED and not there and not self.containers()
        if row.phase is not Phase.RUNNING or len(there) != 1:
            return False
        service = there[0]
        env = {one.name: one.value for one in service.template.containers[0].env}
        newest = service.latest_created_revision.rsplit("/", 1)[-1]
        return env["VERSION"] == version and await self.answer() == newest

    def containers(self) -> list[str]:
        parent = self.place.parent(self.place.region)
        return [
            one.launch.revision
            for one in self.google.runtime.instances
            if one.ended is None and one.launch.revision.startswith(parent)
        ]

    def told(self) -> str:
        return "\n".join(self.story())


class _NoBuilder:
    """These projects bring their image."""
