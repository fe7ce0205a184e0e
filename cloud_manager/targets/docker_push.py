"""From a program that has been started to one that serves alone: waits for the front to turn to it, then tidies."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from cloud_manager.clock import Clock
from cloud_manager.errors import DeployError
from cloud_manager.targets.docker_boxes import Boxes, File
from cloud_manager.targets.docker_observation import FrontState
from cloud_manager.targets.docker_spec import FRONT_HOME, ONCE_FAILED, ONCE_READY, Plan, alias
from cloud_manager.targets.docker_world import Box

log = logging.getLogger(__name__)

_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 1.0
_TRIES = 5
_DRAIN = 10.0
"""Seconds that connections to the older revision get to end by themselves."""


class Push:
    """One attempt. program, front: the containers. then: what is done once older revisions have gone."""

    def __init__(  # noqa: PLR0913 - all that an attempt needs, named
        self, boxes: Boxes, clock: Clock, plan: Plan, program: Box, front: Box, *, then: Callable[[], Awaitable[object]]
    ) -> None:
        self.plan = plan
        self._then = then
        self._boxes = boxes
        self._clock = clock
        self._program = program
        self._front = front
        at = clock.now()
        self._wish = plan.wish | {"attempt": f"{program.id[:12]}@{at:.6f}", "at": at, "container": program.id}
        self._task: asyncio.Task[None] | None = None

    @property
    def is_alive(self) -> bool:
        return self._task is not None and not self._task.done()

    async def begin(self) -> None:
        """Tell the front; the rest goes on by itself."""
        await self._tell(settled=False)
        self._task = asyncio.create_task(self._run(), name=f"push {self._program.name}")

    async def cancel(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        """Each step may be repeated. Given up, what is left is seen by the next look, and taken up by `apply`."""
        for _ in range(_TRIES):
            try:
                await self._bring_to_its_end()
                break
            except DeployError as error:
                log.warning("%s: %s", self._program.name, error)
                await self._clock.sleep(_LONGEST_PAUSE)

    async def _bring_to_its_end(self) -> None:
        if await self._turned():
            await self._boxes.restart_by(ONCE_READY, self._program.id, self._program.name)
            await self._tell(settled=True)
            await self._tidy()
            await self._then()

    async def _turned(self) -> bool:
        """Wait until the front has turned to the program; False if it never will, e.g. after the Engine's death."""
        pause = _FIRST_PAUSE
        while True:
            state = await self._state()
            if state and state.verdict == "ready":
                return True
            if state and state.verdict == "failed":
                await self._boxes.restart_by(ONCE_FAILED, self._program.id, self._program.name)
                await self._boxes.stop(self._program)
                return False
            if any([_is_over(await self._boxes.inspect(box)) for box in (self._program, self._front)]):
                return False
            await self._clock.sleep(pause)
            pause = min(pause * 1.3, _LONGEST_PAUSE)

    async def _tidy(self) -> None:
        """End older revisions gently; take away what nobody uses any more."""
        world = await self._boxes.world(self.plan.names.key)
        others = [box for box in world.programs if box.id != self._program.id]
        await asyncio.gather(*map(self._end, others))
        for box in world.fronts:
            if box.id != self._front.id:
                await self._boxes.remove(box.id, box.name)
        used = {volume["Name"] for volume in self.plan.volumes}
        for name in set(world.volumes) - used:
            await self._boxes.remove_volume(name)

    async def _end(self, box: Box) -> None:
        deadline = self._clock.now() + _DRAIN
        while self._clock.now() < deadline and await self._is_busy(box):
            await self._clock.sleep(_LONGEST_PAUSE / 2)
        await self._boxes.stop(box)
        await self._boxes.remove(box.id, box.name)

    async def _is_busy(self, box: Box) -> bool:
        state = await self._boxes.front_state(self._front)
        return state is not None and state.open.get(alias(box.revision), 0) > 0

    async def _state(self) -> FrontState | None:
        """What the front says of this very attempt."""
        state = await self._boxes.front_state(self._front)
        return state if state and state.attempt == self._wish["attempt"] else None

    async def _tell(self, *, settled: bool) -> None:
        wish = json.dumps(self._wish | {"settled": settled}).encode()
        await self._boxes.put(self._front.id, self._front.name, FRONT_HOME, File("wish.json", wish))


def _is_over(inspected: Mapping[str, Any] | None) -> bool:
    """Whether a program has ended and the Engine will not start it again."""
    return inspected is None or inspected["State"]["Status"] in ("exited", "dead")
