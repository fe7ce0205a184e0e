"""What the routes work with. Built in `__main__.py`, handed to `create_app`, reached through `Parts`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Protocol

from fastapi import Depends, Request

from cloud_manager.board import Board
from cloud_manager.builder import Builder
from cloud_manager.change_feed import ChangeFeed
from cloud_manager.clock import Clock, SystemClock
from cloud_manager.deployment import Key
from cloud_manager.deployment_spec import DeploymentSpec
from cloud_manager.drafts import Drafts
from cloud_manager.event_feed import EventFeed
from cloud_manager.metrics import Metrics
from cloud_manager.preflight import Report
from cloud_manager.routes.event_stream import EventStreams
from cloud_manager.store.protocol import Store
from cloud_manager.targets.target import Target
from image_builder.contract import BuildStatus


class Wishes(Protocol):
    """What a user may wish: `use_cases.Deployments`. All return at once."""

    async def start(self, key: Key) -> object: ...

    async def rollback(self, key: Key, to: str | None = None) -> object: ...

    async def stop(self, key: Key) -> object: ...


class Controller(Protocol):
    """`controller.Controller`, as far as it shows here."""

    async def run(self) -> None:
        """Works until it is cancelled."""
        ...

    def build_status(self, key: Key) -> BuildStatus | None:
        """The build that is under way, from memory."""
        ...


class Targets(Protocol):
    """`targets.catalog.Catalog`."""

    def get(self, name: str, /) -> Target: ...

    def available(self) -> tuple[str, ...]: ...


class PreflightRuns(Protocol):
    """`preflights.Preflights`."""

    async def run(self, spec: DeploymentSpec | None, target: str | None = None) -> Report: ...

    async def of_project(self, key: Key, target: str | None = None) -> Report: ...


@dataclass
class Collaborators:
    """The concretes, and what the streams of this process share."""

    deployments: Wishes
    controller: Controller
    store: Store
    board: Board
    targets: Targets
    builder: Builder
    clock: Clock = field(default_factory=SystemClock)
    streams: EventStreams = field(default_factory=EventStreams)
    metrics: Metrics = field(default_factory=Metrics)
    preflights: PreflightRuns = field(kw_only=True)
    drafts: Drafts = field(kw_only=True)
    feed: EventFeed = field(init=False)
    changes: ChangeFeed = field(init=False)

    def __post_init__(self) -> None:
        self.feed = EventFeed(self.store, self.clock)
        self.changes = ChangeFeed(self.board, self.store, self.clock)
        self.metrics.show(self.board)


async def _parts(request: Request) -> Collaborators:
    parts: Collaborators = request.app.state.parts
    return parts


Parts = Annotated[Collaborators, Depends(_parts)]
