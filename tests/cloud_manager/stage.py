"""A controller with everything around it in memory, driven step by step under a clock turned by hand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cloud_manager.board import Board
from cloud_manager.controller import Controller
from cloud_manager.deployment import Deployment, Key, Phase
from cloud_manager.deployment_spec import DeploymentSpec, LoadedSpec
from cloud_manager.errors import TargetError
from cloud_manager.revisions import chosen
from cloud_manager.targets.target import Target
from cloud_manager.watch import Watch
from tests.fakes.builder import FakeBuilder, Workshop
from tests.fakes.clock import ManualClock
from tests.fakes.memory_store import Memory, MemoryStore
from tests.fakes.target import FakeTarget, World

KEY = Key("7", "42")
SOURCE = "common/7/42"
"""There is no shared disk on this stage, so no `nn_model` is found in the project's folder."""
RESYNC = 180.0


def spec(type: str = "fake", **deploy: Any) -> DeploymentSpec:
    build = {"components": {"libs": ["flask>=3"]}}
    return DeploymentSpec.model_validate(
        {"build": build, "deploy": {"type": type, "entrypoint": ["main.py"], **deploy}}
    )


def prebuilt(uri: str = "registry/hello:1") -> DeploymentSpec:
    return DeploymentSpec.model_validate({"build": {"image_uri": uri}, "deploy": {"type": "fake"}})


class NamedTarget(FakeTarget):
    def __init__(self, name: str, world: World) -> None:
        super().__init__(world)
        self.name = name


class Shelf:
    """`Targets` over a dictionary."""

    def __init__(self, targets: dict[str, Target]) -> None:
        self.targets = targets

    def get(self, type: str, /) -> Target:
        if type not in self.targets:
            cause = f"deploy.type {type} is not available here"
            raise TargetError(cause, f"Use one of: {', '.join(self.targets)}", code="target_unavailable")
        return self.targets[type]


def _as_it_is(part: Any) -> Any:
    return part


@dataclass
class Stage:
    """The world outlives every controller: `restart` is what happens after `kill -9`."""

    clock: ManualClock = field(default_factory=ManualClock)
    memory: Memory = field(default_factory=Memory)
    worlds: dict[str, World] = field(default_factory=lambda: {"fake": World(), "other": World()})
    wrap: Callable[[Any], Any] = _as_it_is
    watch: Watch | None = None

    def __post_init__(self) -> None:
        self.shop = Workshop(clock=self.clock)
        self.wishes = MemoryStore(self.memory)
        for world in self.worlds.values():
            world.pull = self.shop.pull
        self.restart()

    @property
    def world(self) -> World:
        return self.worlds["fake"]

    def restart(self) -> None:
        self.memory.owned.clear()  # The locks of a dead process are free.
        self.store = MemoryStore(self.memory)
        self.board = Board()
        self.targets = Shelf({name: self.wrap(NamedTarget(name, world)) for name, world in self.worlds.items()})
        self.controller = Controller(
            self.wrap(self.store),
            self.board,
            self.wrap(FakeBuilder(self.shop)),
            self.targets,
            self.clock,
            shared_root=Path("/nowhere"),
            resync_seconds=RESYNC,
            watch=self.watch,
        )

    async def start(self, wanted: DeploymentSpec | None = None, key: Key = KEY) -> None:
        await self.wishes.want_present(key, LoadedSpec(wanted or spec()), now=self.clock.now())

    async def rollback(self, to: str | None = None, key: Key = KEY) -> None:
        revision = chosen(self.row(key), await self.wishes.revisions(key), to)
        await self.wishes.want_again(key, revision, now=self.clock.now())

    async def stop(self, key: Key = KEY) -> None:
        await self.wishes.want_absent(key, now=self.clock.now())

    def change_files(self, text: str) -> None:
        self.shop.files[SOURCE] = text

    def row(self, key: Key = KEY) -> Deployment:
        return self.memory.rows[key]

    async def step(self, key: Key = KEY) -> Deployment:
        """The next step, when it is due."""
        self.clock.advance(max(0.0, self.row(key).due - self.clock.now()))
        await self.controller.reconcile(key)
        return self.row(key)

    async def settle(self, key: Key = KEY, steps: int = 200) -> Deployment:
        """Steps until the project is at rest: nothing is to be done for a long time."""
        for _ in range(steps):
            row = self.row(key)
            if row.phase.at_rest and row.due - self.clock.now() > 100:
                return row
            await self.step(key)
        raise AssertionError(f"never at rest: {self.row(key)}\n{self.story()}")

    async def until(self, phase: Phase, key: Key = KEY) -> Deployment:
        for _ in range(100):
            if self.row(key).phase is phase:
                return self.row(key)
            await self.step(key)
        raise AssertionError(f"never {phase}: {self.row(key)}\n{self.story()}")

    async def resync(self, key: Key = KEY) -> Deployment:
        await self.step(key)
        return await self.settle(key)

    def story(self, key: Key = KEY, *, since: int = 0) -> list[str]:
        """The history as a person reads it, without ids and durations."""
        return [f"{event.kind}: {event.message}" for event in self.memory.events if event.sequence > since]

    def kinds(self) -> list[str]:
        return [event.kind for event in self.memory.events]

    def serving(self, name: str = "fake", key: Key = KEY) -> int:
        return len(self.worlds[name].running.get(key, []))

    def nothing_left(self, key: Key = KEY) -> bool:
        gone = all(not world.running.get(key) and key not in world.removing for world in self.worlds.values())
        return gone and not self.shop.in_flight()
