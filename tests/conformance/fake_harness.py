"""The in-memory fake, held to the same promises as the real targets."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from cloud_manager.deployment import Key
from cloud_manager.targets.target import Target
from image_builder.contract import Problem
from tests.conformance.harness import Behaviour
from tests.fakes.target import FakeTarget, Revision, World

_EXITED = Problem(
    code="exited", cause="the program exited with code 3; its last lines: cannot go on", fix="mend the program"
)


class FakeHarness:
    name = "fake"

    def __init__(self) -> None:
        self.world = World(pending_looks=1, removing_looks=1)

    def target(self) -> Target:
        return FakeTarget(self.world)

    def image(self, word: str, behaviour: Behaviour = "serve") -> dict[str, Any]:
        uri = f"{behaviour}/{word}"
        if behaviour == "exit":
            self.world.broken[uri] = _EXITED
        return {"image_uri": uri}

    async def ask(self, url: str) -> str | None:
        await asyncio.sleep(0)
        for key in self.world.running:
            serving = self.world.serving(key)
            if serving and self.world.url(key) == url:
                return str(serving.wanted.image_uri).partition("/")[2]
        return None

    async def instance(self, key: Key) -> str | None:
        serving = self._serving(key)
        return str(serving.instance) if serving else None

    async def kill(self, key: Key) -> None:
        self.world.crash(key)

    async def leftovers(self, key: Key) -> list[str]:
        return [one.wanted.revision for one in self.world.running.get(key, [])]

    async def foreign(self) -> Callable[[], Awaitable[bool]]:
        other = Key("someone", "else")
        self.world.log[other] = ["theirs"]

        async def untouched() -> bool:
            return self.world.log.get(other) == ["theirs"]

        return untouched

    async def aclose(self) -> None:
        self.world.running.clear()

    def _serving(self, key: Key) -> Revision | None:
        return self.world.serving(key)
