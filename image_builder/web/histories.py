"""What happened to projects that somebody looks at: read once for all pages, and anew when it changed."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from dataclasses import dataclass, field

from image_builder.web.languages import Language
from image_builder.web.manager_client import ManagerClient
from image_builder.web.manager_models import Deployment, Event, Revision

_KEPT = 100
_EVENTS = 1000


@dataclass(frozen=True, slots=True)
class Story:
    """events: oldest first. revisions: that ran well, the newest first."""

    events: tuple[Event, ...]
    revisions: tuple[Revision, ...]


@dataclass
class _History:
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    seen: Deployment | None = None
    story: Story = field(default_factory=lambda: Story((), ()))


class Histories:
    """Of one language."""

    def __init__(self, manager: ManagerClient, language: Language) -> None:
        self._manager = manager
        self._language: Language = language
        self._known: OrderedDict[str, _History] = OrderedDict()

    async def of(self, deployment: Deployment) -> Story:
        """As new as the deployment. Of the events, only what is new is asked for."""
        history = self._known.setdefault(deployment.key, _History())
        self._known.move_to_end(deployment.key)
        while len(self._known) > _KEPT:
            self._known.popitem(last=False)
        async with history.lock:
            if history.seen is None or history.seen.shown != deployment.shown:
                known = history.story.events
                after = known[-1].sequence if known else 0
                new = await self._manager.events(self._language, deployment.key, after)
                revisions = await self._manager.revisions(self._language, deployment.key)
                history.story = Story((*known, *new)[-_EVENTS:], revisions)
                history.seen = deployment
            return history.story
