"""One look at each region for all projects: however many ask, Google is asked once per period."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping, Sequence

from google.cloud import run_v2

from cloud_manager.deployment import Key
from cloud_manager.names import DEFAULT_OWNER, OWNER_LABEL, labels
from cloud_manager.targets.cloud_run_observation import is_ready
from cloud_manager.targets.cloud_run_spec import REVISION

Look = Callable[[], Awaitable[Sequence[run_v2.Service]]]
_CALM = 10
"""Else a thousand services at rest, of which each is looked at every few minutes, would be listed every second."""
_NAMES = tuple(sorted(labels(Key("", ""), "").keys() - {REVISION}))
_Marks = tuple[str, ...]
_World = Mapping[_Marks, Sequence[run_v2.Service]]


class Snapshots:
    def __init__(
        self, look: Look, period: float, time: Callable[[], float] = time.monotonic, *, owner: str = DEFAULT_OWNER
    ) -> None:
        """Args:
        look: lists all services of all regions.
        period: seconds for which a look is good enough; of what was at rest in it, several times as long.
        owner: the name of this installation; what others have in the same Google project is not seen here.
        """
        self._owner = owner
        self._ask = look
        self._period = period
        self._time = time
        self._look: asyncio.Task[_World] | None = None
        self._looks: set[asyncio.Task[_World]] = set()
        self._until = 0.0

    async def of(self, key: Key, *, calm: bool = False) -> Sequence[run_v2.Service]:
        """The services of a project. calm: what is at rest need not be looked at so soon. Raises as the look does."""
        now, marks = self._time(), _marks(labels(key, "", self._owner))
        if calm and self._look is not None and self._look.done() and not _failed(self._look):
            services = self._look.result().get(marks, ())
            if now < self._until + self._period * _CALM and services and all(map(is_ready, services)):
                return services
        if self._look is None or (self._look.done() and (now >= self._until or _failed(self._look))):
            self._look, self._until = asyncio.create_task(self._all()), now + self._period
            self._looks.add(self._look)
            self._look.add_done_callback(self._ended)
        # Who is cancelled takes the look from nobody else.
        return (await asyncio.shield(self._look)).get(marks, ())

    def forget(self) -> None:
        """Something has been changed: a look that began before is of no use."""
        self._look = None

    async def aclose(self) -> None:
        for look in list(self._looks):
            look.cancel()
        await asyncio.gather(*self._looks, return_exceptions=True)

    def _ended(self, look: asyncio.Task[_World]) -> None:
        self._looks.discard(look)
        _failed(look)  # its error is known to who waited for it, if anybody did

    async def _all(self) -> _World:
        found = defaultdict(list)
        for service in await self._ask():
            # The bare message's labels: proto-plus takes 20 times as long, which a thousand services make felt.
            found[_marks(run_v2.Service.pb(service).labels)].append(service)
        return found


def _marks(rows: Mapping[str, str]) -> _Marks:
    """The labels that say whose a service is."""
    return tuple(rows.get(name, DEFAULT_OWNER if name == OWNER_LABEL else "") for name in _NAMES)


def _failed(look: asyncio.Task[_World]) -> bool:
    return look.cancelled() or look.exception() is not None
