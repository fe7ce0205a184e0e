"""One look at an Engine for all projects: however many ask, it is asked once per short period."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from urllib.parse import urlsplit

from cloud_manager.deployment import Key
from cloud_manager.targets.docker_engine import Engine
from cloud_manager.targets.docker_spec import DEFAULT_HOST, owner_selector
from cloud_manager.targets.docker_world import World, worlds_of

_PERIOD = 0.3
"""Seconds for which a look is good enough."""
_COLUMNS = ("Id", "Names", "State", "Created", "Labels", "Ports")


class Snapshots:
    def __init__(self, engine: Engine, owner: str) -> None:
        self._engine = engine
        self._owner = owner
        self._filters = owner_selector(owner)
        self._host = urlsplit(engine.host).hostname or DEFAULT_HOST
        self._look: asyncio.Task[Mapping[Key, World]] | None = None
        self._looks: set[asyncio.Task[Mapping[Key, World]]] = set()
        self._until = 0.0

    async def world(self, key: Key) -> World:
        """Raises as `Engine.asked`."""
        now = asyncio.get_running_loop().time()
        if self._look is None or (self._look.done() and (now >= self._until or _failed(self._look))):
            self._look, self._until = asyncio.create_task(self._all()), now + _PERIOD
            self._looks.add(self._look)
            self._look.add_done_callback(self._ended)
        # Who is cancelled takes the look from nobody else.
        return (await asyncio.shield(self._look)).get(key, World())

    def forget(self) -> None:
        """Something has been changed: a look that began before is of no use."""
        self._look = None

    async def aclose(self) -> None:
        for look in list(self._looks):
            look.cancel()
        await asyncio.gather(*self._looks, return_exceptions=True)

    def _ended(self, look: asyncio.Task[Mapping[Key, World]]) -> None:
        self._looks.discard(look)
        _failed(look)  # its error is known to who waited for it, if anybody did

    async def _all(self) -> Mapping[Key, World]:
        async with self._engine.asked("list containers") as docker:
            containers, networks, volumes = await asyncio.gather(
                docker.containers.list(all=1, filters=json.dumps(self._filters)),
                docker.networks.list(filters=self._filters),
                docker.volumes.list(filters=self._filters),  # type: ignore[no-untyped-call]
            )
        rows = [{name: box[name] for name in _COLUMNS if name in box} for box in containers]
        return worlds_of(rows, networks, volumes["Volumes"] or (), self._host, self._owner)


def _failed(look: asyncio.Task[Mapping[Key, World]]) -> bool:
    return look.cancelled() or look.exception() is not None
