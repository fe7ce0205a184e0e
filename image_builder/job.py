"""One build under way, and who hears of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

from image_builder.base_step import Groundwork
from image_builder.contract import LayerProgress
from image_builder.foundation import Foundation
from image_builder.oci.base import BaseImage
from image_builder.oci.registries import Registries
from image_builder.plan import BuildPlan
from image_builder.progress import LayerBoard
from image_builder.publish import Publisher
from image_builder.shared_layers import SharedLayers
from image_builder.workshop import Workshop

Step = Literal["base", "resolve", "fetch", "layers", "assemble", "push"]


class Reporter(Protocol):
    """Hears how a build goes. Calls come from any thread and must return at once."""

    def step(self, name: Step) -> None: ...

    def layer(self, progress: LayerProgress) -> None:
        """The newest state of one layer; `name` is its identity within the build."""
        ...

    def base(self, reference: str) -> None:
        """The base image that was found, by its digest."""
        ...

    def log(self, message: str) -> None:
        """One line for people."""
        ...


@dataclass(frozen=True)
class Job:
    """What the steps of one build hand on to each other."""

    plan: BuildPlan
    workshop: Workshop
    report: Reporter
    board: LayerBoard
    registries: Registries
    foundation: Foundation | None = None
    publisher: Publisher | None = None
    shared: SharedLayers | None = None

    @property
    def base(self) -> BaseImage | None:
        return self.foundation.base if self.foundation else None

    @property
    def groundwork(self) -> Groundwork:
        workshop = self.workshop
        return Groundwork(workshop.layout, workshop.folder / "bases", self.registries, self.board, workshop.engines)
