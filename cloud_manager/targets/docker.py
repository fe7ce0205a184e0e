"""`deploy.type: docker`: containers of a Docker Engine.

Of each project there are a network, a container for each revision, and a front: a small container that holds the public
port and turns it to the newest revision that answers (`docker_front.py`). The front needs no manager for that; what is
left to do once it has turned (the older revision's end) is done here, and taken up again by the next `apply` if this
process dies.
"""

from __future__ import annotations

import asyncio
import logging
import platform
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import aclosing
from functools import partial
from typing import Protocol, get_args

from cloud_manager.builder import Builder
from cloud_manager.clock import Clock
from cloud_manager.deployment import Key
from cloud_manager.deployment_spec import DeploymentSpec, python_version
from cloud_manager.errors import InvalidSpec
from cloud_manager.settings import Settings
from cloud_manager.spec_checks import DEFAULT_PYTHON
from cloud_manager.targets.calls import Told, untold
from cloud_manager.targets.docker_boxes import Boxes
from cloud_manager.targets.docker_checks import problems_of
from cloud_manager.targets.docker_credentials import DockerLogin
from cloud_manager.targets.docker_engine import Engine
from cloud_manager.targets.docker_images import EngineImages
from cloud_manager.targets.docker_logs import read_log
from cloud_manager.targets.docker_observation import FrontState, has_trouble, leading, observation
from cloud_manager.targets.docker_placing import Placing
from cloud_manager.targets.docker_push import Push
from cloud_manager.targets.docker_snapshot import Snapshots
from cloud_manager.targets.docker_spec import ImageStart, Plan, plan_of
from cloud_manager.targets.docker_world import Box, World
from cloud_manager.targets.secret_files import mark_of, read_secrets
from cloud_manager.targets.target import BuildPlatform, Observation, Wanted
from image_builder.contract import Platform, Problem

log = logging.getLogger(__name__)


class Images(Protocol):
    """How images reach the Engine: `docker_images.EngineImages`."""

    async def ensure(self, wanted: Wanted, log: Callable[[str], None]) -> str: ...

    async def python(self, log: Callable[[str], None]) -> str: ...

    async def meaning(self, image: str, image_uri: str) -> str | None: ...

    async def forget(self, key: Key) -> None: ...

    async def sweep(self, in_use: Collection[str]) -> tuple[str, ...]: ...


def docker_target(settings: Settings, builder: Builder, clock: Clock, told: Told = untold) -> DockerTarget:
    """The target over the Engine that the settings name, which is asked when it is first needed."""
    engine = Engine.of(settings, told)
    return DockerTarget(
        settings,
        engine,
        EngineImages(engine, builder, DockerLogin(settings.docker_config), clock, settings.docker_owner),
        clock,
    )


class DockerTarget:
    name = "docker"
    ignores: tuple[str, ...] = (
        "build.os",
        "deploy.resources.gpu_type",
        "deploy.scaling",
        "deploy.public",
        "deploy.region",
        "deploy.timeout_seconds",
        "deploy.service_account",
        "deploy.k8s",
    )

    def __init__(self, settings: Settings, engine: Engine, images: Images, clock: Clock) -> None:
        self._settings = settings
        self._engine = engine
        self._images = images
        self._clock = clock
        snapshots = Snapshots(engine, settings.docker_owner)
        self._snapshots = snapshots
        self._boxes = Boxes(engine, snapshots)
        self._pushes: dict[Key, Push] = {}

    def check(self, spec: DeploymentSpec) -> list[Problem]:
        secrets, missing = self._settings.secrets_dir is not None, self._engine.missing
        return problems_of(spec, secrets=secrets, platform=self._platform(spec), missing=missing)

    def build_platform(self, spec: DeploymentSpec) -> BuildPlatform:
        try:
            python = python_version(spec) or DEFAULT_PYTHON
        except ValueError as error:
            raise InvalidSpec(f"build.components.libs: {error}", "write e.g. python==3.11") from error
        return BuildPlatform(self._platform(spec), python)

    async def observe(self, key: Key) -> Observation:
        push = self._pushes.get(key)
        pushed = push.plan.revision if push and push.is_alive else None
        world = await self._boxes.world(key)
        fronts = await self._states(world)
        lead = leading(fronts)
        program = world.program(lead.revision) if lead else None
        trouble = await self._boxes.trouble(program) if lead and program and has_trouble(world, lead) else None
        return observation(world, fronts, pushed=pushed, trouble=trouble)

    async def apply(self, wanted: Wanted) -> None:
        """As promised by the protocol; a revision that failed is tried anew."""
        seen = await self.observe(wanted.key)
        if seen.revision == wanted.revision and seen.state in ("ready", "pending"):
            return
        await self._stop_push(wanted.key)
        plan, secrets = await self._plan(wanted)
        world = await self._boxes.world(wanted.key)
        placing = self._placing(wanted.key, plan)
        container, front = await placing.place(world, await self._states(world), secrets)
        push = Push(self._boxes, self._clock, plan, container, front, then=self._clear_images)
        await push.begin()
        self._pushes[wanted.key] = push

    async def secrets_mark(self, spec: DeploymentSpec, salt: str) -> str:
        return await asyncio.to_thread(mark_of, self._settings.secrets_dir, spec, salt)

    async def remove(self, key: Key) -> None:
        await self._stop_push(key)
        world = await self._boxes.world(key)
        if world != World():
            await asyncio.gather(*map(self._boxes.stop, (box for box in world.programs if box.state == "running")))
            await asyncio.gather(*(self._boxes.remove(box.id, box.name) for box in world.boxes))
            for name in world.networks:
                await self._boxes.remove_network(name)
            for name in world.volumes:
                await self._boxes.remove_volume(name)
        await self._images.forget(key)
        await self._clear_images()

    async def resolved(self, key: Key, image_uri: str) -> str | None:
        world = await self._boxes.world(key)
        newest = max(world.programs, key=lambda box: box.created, default=None)
        if newest is None:
            return None
        about = await self._boxes.inspect(newest)
        return await self._images.meaning(str(about["Image"]), image_uri) if about is not None else None

    async def logs(self, key: Key, *, tail: int, follow: bool) -> AsyncIterator[str]:
        async def programs() -> tuple[Box, ...]:
            return (await self._boxes.world(key)).programs

        async with aclosing(read_log(self._engine, programs, self._clock, tail=tail, follow=follow)) as lines:
            async for line in lines:
                yield line

    async def aclose(self) -> None:
        for key in list(self._pushes):
            await self._stop_push(key)
        await self._snapshots.aclose()
        await self._engine.aclose()

    def _placing(self, key: Key, plan: Plan) -> Placing:
        python = partial(self._images.python, _told(key))
        return Placing(self._boxes, self._engine, plan, front_image=self._settings.front_image, python=python)

    async def _plan(self, wanted: Wanted) -> tuple[Plan, dict[str, str]]:
        secrets = await asyncio.to_thread(read_secrets, self._settings.secrets_dir, wanted.spec)
        image = await self._images.ensure(wanted, _told(wanted.key))
        start = ImageStart()
        if secrets:
            async with self._engine.asked(f"inspect image {image}") as docker:
                start = ImageStart.parse(await docker.images.inspect(image))
        return plan_of(wanted, self._settings.docker_owner, image, start), secrets

    async def _clear_images(self) -> None:
        """Of images that we put there, those that no container has been made of for a while."""
        await self._images.sweep(())

    async def _states(self, world: World) -> list[FrontState]:
        running = [box for box in world.fronts if box.state == "running"]
        states = await asyncio.gather(*map(self._boxes.front_state, running))
        return [state for state in states if state is not None]

    async def _stop_push(self, key: Key) -> None:
        push = self._pushes.pop(key, None)
        if push is not None:
            await push.cancel()

    def _platform(self, spec: DeploymentSpec) -> Platform:
        """The Engine's, which runs on this machine's processor; of one elsewhere the file tells."""
        machine = {"x86_64": "amd64", "amd64": "amd64", "aarch64": "arm64", "arm64": "arm64"}
        own = f"linux/{machine.get(platform.machine().lower())}"
        return next((one for one in get_args(Platform) if self._engine.is_here and one == own), spec.build.architecture)


def _told(key: Key) -> Callable[[str], None]:
    return lambda line: log.info("%s: %s", key, line)
