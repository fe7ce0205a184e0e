"""Puts what a plan asks for on an Engine: each thing is adopted if it is there and right, else made anew."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path

from cloud_manager.errors import DeployError, TargetError
from cloud_manager.targets import docker_front
from cloud_manager.targets.docker_boxes import Boxes, File
from cloud_manager.targets.docker_engine import Engine, EngineRefused
from cloud_manager.targets.docker_observation import FrontState
from cloud_manager.targets.docker_spec import FRONT_HOME, SECRETS_HOME, Plan, alias
from cloud_manager.targets.docker_world import Box, World
from cloud_manager.targets.local_problems import port_in_use

_NOBODY = 65534


class Placing:
    """front_image: of the front; empty: the program's own. python: gets another one, if that has no python3."""

    def __init__(
        self, boxes: Boxes, engine: Engine, plan: Plan, *, front_image: str, python: Callable[[], Awaitable[str]]
    ) -> None:
        self._boxes = boxes
        self._engine = engine
        self._plan = plan
        self._front_image = front_image or plan.program["Image"]
        self._python = None if front_image else python

    async def place(self, world: World, states: Sequence[FrontState], secrets: Mapping[str, str]) -> tuple[Box, Box]:
        """The program and the front, both started. secrets: variable -> value.

        Raises:
            DeployError: the Engine refuses; what serves already goes on.
        """
        await self._clear(world, states)
        if self._plan.network["Name"] not in world.networks:
            await self._boxes.create_network(self._plan.network)
        for volume in self._plan.volumes:
            if volume["Name"] not in world.volumes:
                await self._boxes.create_volume(volume)
        world = await self._boxes.world(self._plan.names.key)
        front = await self._front(world)  # before the program: a port that cannot be had is told before anything runs
        return await self._program(world, secrets), front

    async def _clear(self, world: World, states: Sequence[FrontState]) -> None:
        """Programs that neither serve nor can be what is wanted."""
        serving = {state.active[0] for state in states if state.active}
        broken = {state.revision for state in states if state.verdict == "failed" or state.health == "unhealthy"}
        known = {state.revision: state.container for state in sorted(states, key=lambda state: state.at)}
        for box in world.programs:
            wanted = box.revision == self._plan.revision
            ours = known.get(box.revision, box.id) == box.id  # else somebody has put it in the place of ours
            good = ours and box.state in ("running", "created") and box.revision not in broken
            if not (good if wanted else alias(box.revision) in serving):
                await self._boxes.remove(box.id, box.name)
        for box in world.fronts:
            if box.state != "running":
                await self._boxes.remove(box.id, box.name)

    async def _front(self, world: World) -> Box:
        there = world.front(self._plan.address)
        if there is not None:
            return there
        *first, last = self._plan.ports
        for port in first:
            try:
                return await self._start_front(port)
            except EngineRefused as refused:
                if refused.problem.code != "port_in_use":
                    raise
        return await self._start_front(last)

    async def _start_front(self, port: int) -> Box:
        """Raises TargetError: `no_front_image`, with why the other one cannot be had; else as the Engine refuses."""
        try:
            return await self._front_of(self._front_image, port)
        except EngineRefused as refused:
            if refused.problem.code != "entrypoint_missing":
                raise
            if self._python is None:
                raise _no_front(self._front_image) from refused
        try:
            self._front_image = await self._python()
        except DeployError as error:
            raise _no_front(self._front_image, error) from error
        return await self._front_of(self._front_image, port)

    async def _front_of(self, image: str, port: int) -> Box:
        plan = self._plan
        name = plan.names.front(plan.address)
        container = await self._boxes.create(name, plan.front(image, port))
        try:
            await self._boxes.put(container, name, "/", *_front_files())
            await self._boxes.start(container, name)
        except EngineRefused as refused:
            await self._boxes.remove(container, name)
            raise await self._explained(refused, port) from refused
        return Box(container, name, "running", 0, address=plan.address)

    async def _explained(self, refused: EngineRefused, port: int) -> EngineRefused:
        if refused.problem.code == "port_in_use" and port:
            found = port_in_use(self._plan.host, port, await self._holder(port))
            error = EngineRefused(found["cause"], found["fix"], code=found["code"])
            error.status = refused.status
            return error
        return refused

    async def _holder(self, port: int) -> str | None:
        """Which container has published a port, whoever's it is."""
        async with self._engine.asked("list containers") as docker:
            for box in await docker.containers.list():
                if any(one.get("PublicPort") == port for one in box["Ports"]):
                    return f"the container {box['Names'][0].lstrip('/')}"
        return None

    async def _program(self, world: World, secrets: Mapping[str, str]) -> Box:
        plan = self._plan
        name, there = plan.names.program(plan.revision), world.program(plan.revision)
        if there is not None and there.state == "running":
            return there
        container = there.id if there is not None else await self._boxes.create(name, plan.program)
        try:
            if secrets:
                await self._boxes.put(container, name, "/", *_secret_files(secrets))
            await self._boxes.start(container, name)
        except EngineRefused:
            await self._boxes.remove(container, name)
            raise
        return Box(container, name, "running", 0, revision=plan.revision)


def _no_front(image: str, other: DeployError | None = None) -> TargetError:
    also = f", and there is no other: {other.problem.cause}" if other else ""
    return TargetError(
        f"the image {image} has no python3, which holds the service's public port{also}",
        "set FRONT_IMAGE to an image with python3 that the Engine has, e.g. the manager's own",
        code="no_front_image",
        retryable=bool(other and other.problem.retryable),
    )


def _front_files() -> tuple[File, ...]:
    source = Path(docker_front.__file__).read_bytes()
    home = FRONT_HOME.lstrip("/")
    return File(home, mode=0o755, owner=_NOBODY), File(f"{home}/front.py", source)


def _secret_files(secrets: Mapping[str, str]) -> list[File]:
    """Into the container's own layer, which goes with it. Not a volume: a tmpfs would be empty after a restart."""
    home = SECRETS_HOME.lstrip("/")
    files = (File(f"{home}/{variable}", value.encode()) for variable, value in secrets.items())
    return [File(home, mode=0o755), *files]
