"""What the pages work with. Built in `__main__.py`; a handler has it by `parts_of(request)`."""

from __future__ import annotations

from dataclasses import dataclass, field

from starlette.requests import Request

from image_builder.build_queue import BuildQueue
from image_builder.clock import Clock, SystemClock
from image_builder.oci.layout import Layout
from image_builder.size_estimate import Estimator
from image_builder.web.assets import Assets
from image_builder.web.deployment_feed import DeploymentFeed
from image_builder.web.histories import Histories
from image_builder.web.languages import LANGUAGES, Language
from image_builder.web.live import Streams
from image_builder.web.log_hub import LogHub
from image_builder.web.manager_client import ManagerClient
from image_builder.web.pages import Pages
from image_builder.web.rendered import Rendered
from image_builder.web.words import read_words


@dataclass
class WebParts:
    """The concretes, and what the pages of this process share."""

    manager: ManagerClient
    queue: BuildQueue
    layout: Layout
    estimator: Estimator | None = None
    clock: Clock = field(default_factory=SystemClock)
    assets: Assets = field(default_factory=Assets)
    streams: Streams = field(default_factory=Streams)
    pages: Pages = field(init=False)
    rendered: Rendered = field(init=False)
    feeds: dict[Language, DeploymentFeed] = field(init=False)
    histories: dict[Language, Histories] = field(init=False)
    logs: dict[Language, LogHub] = field(init=False)

    def __post_init__(self) -> None:
        self.pages = Pages(read_words(), self.assets, self.clock)
        self.rendered = Rendered(self.pages)
        self.feeds = {language: DeploymentFeed(self.manager, language, self.clock) for language in LANGUAGES}
        self.histories = {language: Histories(self.manager, language) for language in LANGUAGES}
        self.logs = {language: LogHub(self.manager, language, self.clock) for language in LANGUAGES}

    async def aclose(self) -> None:
        for feed in self.feeds.values():
            await feed.aclose()
        await self.manager.aclose()


def parts_of(request: Request) -> WebParts:
    parts: WebParts = request.app.state.parts
    return parts
