"""The events of projects that somebody looks at: each is read from the manager once, for all pages."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from dataclasses import dataclass, field

from image_builder.web.languages import Language
from image_builder.web.manager_client import ManagerClient
from image_builder.web.manager_models import Deployment, Event

_KEPT = 100
_EVENTS = 1000


@dataclass
class _History:
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    seen: Deployment | None = None
    events: list[Event] = field(default_factory=list)


class Histories:
    """Of one language."""

    def __init__(self, manager: ManagerClient, language: Language) -> None:
        self._manager = manager
        self._language: Language = language
        self._known: OrderedDict[str, _History] = OrderedDict()

    async def of(self, deployment: Deployment) -> list[Event]:
        """Oldest first; as new as the deployment. Only what is new is asked for."""
        history = self._known.setdefault(deployment.key, _History())
        self._known.move_to_end(deployment.key)
        while len(self._known) > _KEPT:
            self._known.popitem(last=False)
        async with history.lock:
            if history.seen is None or history.seen.shown != deployment.shown:
                after = history.events[-1].sequence if history.events else 0
                new = await self._manager.events(self._language, deployment.key, after)
                history.events = [*history.events, *new][-_EVENTS:]
                history.seen = deployment
            return history.events
