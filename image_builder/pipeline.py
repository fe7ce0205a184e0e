"""One build, from plan to image: resolve, fetch, layers, assemble."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from image_builder.contract import ImageReference, LayerProgress
from image_builder.file_hashes import FileHashes
from image_builder.oci.layout import Layout
from image_builder.plan import BuildPlan

Step = Literal["resolve", "fetch", "layers", "assemble"]


class Reporter(Protocol):
    """Hears how a build goes. Calls come from any thread and must return at once."""

    def step(self, name: Step) -> None: ...

    def layer(self, progress: LayerProgress) -> None:
        """The newest state of one layer; `name` is its identity within the build."""
        ...

    def log(self, message: str) -> None:
        """One line for people."""
        ...


@dataclass(frozen=True)
class Workshop:
    """The builder's folders and caches, shared by all builds of a process.

    environ: where the host's index, proxy and CA settings are looked up.
    """

    folder: Path
    layout: Layout
    hashes: FileHashes
    environ: Mapping[str, str]

    @classmethod
    def open(cls, state_dir: Path, environ: Mapping[str, str]) -> Workshop:
        """Make STATE_DIR/builder ready; leftovers of dead builders are swept. Blocking."""
        raise NotImplementedError(state_dir, environ)

    def close(self) -> None: ...


async def build(plan: BuildPlan, workshop: Workshop, report: Reporter) -> ImageReference:
    """Make the image of a plan; nothing is done again that is there already.

    May be cancelled at any await: when CancelledError comes out, no thread, process or half-written blob is left.

    Raises:
        BuildError: with the words for the person who can mend it.
    """
    raise NotImplementedError(plan, workshop, report)
