"""The first step of a build on a base image: its layers are known, its tree is read, and it is judged."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from image_builder.contract import Platform
from image_builder.engines.engine import Engine, KeepsImages
from image_builder.errors import BuildError
from image_builder.foundation import Foundation, founded
from image_builder.layer_plan import LayerPlan
from image_builder.layers.index import Layer
from image_builder.oci.base import BaseImage, BaseLayer, fetch_layers, find_base
from image_builder.oci.base_notes import BaseNotes
from image_builder.oci.base_scan import known_tree, scan
from image_builder.oci.layout import Layout
from image_builder.oci.reference import parse
from image_builder.oci.registries import Registries
from image_builder.progress import LayerBoard
from image_builder.work import in_thread

_NOT_THERE = ("image_not_found", "registry_auth")
"""Docker Hub says the second of what it does not have."""


def base_plans(base: BaseImage) -> list[LayerPlan]:
    """A row for each layer, the lowest first."""
    return [
        LayerPlan(layer.title or f"base {count}", "base", layer.digest) for count, layer in enumerate(base.layers, 1)
    ]


@dataclass(frozen=True, slots=True)
class Groundwork:
    """What a base is read with. folder: where trees are kept. engines: where a base may be that no registry gives."""

    layout: Layout
    folder: Path
    registries: Registries
    board: LayerBoard
    engines: Sequence[Engine] = ()

    async def found(self, named: str, platform: Platform, log: Callable[[str], None]) -> BaseImage:
        """What a name means now. A digest means the same for ever and is asked for once. A tag whose registry cannot
        be reached, or lets nobody in for the moment, means what it meant last: a changed program shall go out all
        the same. What was never to be had from a registry may be in an engine.

        Raises:
            BuildError: as `find_base`.
        """
        notes = BaseNotes(self.folder)
        known = await in_thread(lambda _: notes.known(named, platform))
        if known is not None and parse(named).digest:
            return known
        try:
            base = await find_base(named, platform, self.registries)
        except BuildError as error:
            if error.problem.code == "registry_unreachable" and known is not None and parse(known.reference).digest:
                log(f"warning: {error.problem.cause}; {named} is taken as it was on {notes.when(named, platform)}")
                return known
            kept = await self._in_an_engine(named, platform, known, error.problem.code)
            if kept is None:
                raise
            log(f"warning: {error.problem.cause}; {named} is taken from the Docker Engine, where it is {kept.digest}")
            base = kept
        await in_thread(lambda _: notes.keep(named, platform, base))
        return base

    async def _in_an_engine(
        self, named: str, platform: Platform, known: BaseImage | None, code: str
    ) -> BaseImage | None:
        """code: why no registry gave it. Where one may have reasons not to, only what was never in one is taken."""
        if code not in ("registry_unreachable", *_NOT_THERE):
            return None
        for engine in self.engines:
            if isinstance(engine, KeepsImages):
                return await engine.base(named, platform, known, made_here=code in _NOT_THERE)
        return None

    async def lay(self, base: BaseImage, python: str) -> Foundation:
        """Judge a base; only one that was never seen before is fetched for it.

        Raises:
            BuildError: as `fetch_layers`, `scan` and `founded`.
        """
        plans = base_plans(base)
        self.board.expect(plans)
        tree = known_tree(base, self.folder)
        if tree is None:
            await self.complete(base)
            tree = await in_thread(lambda flag: scan(base, self.layout, self.folder, flag))
        for plan, layer in zip(plans, base.layers, strict=True):
            state: Literal["built", "reused"] = "built" if layer.made else "reused"
            self.board.settle(plan, Layer(layer.digest, layer.diff_id, layer.size), state)
        return founded(base, tree, python)

    async def complete(self, base: BaseImage) -> None:
        """Bring the layers here that are not. Raises as `fetch_layers`."""
        rows = {layer.digest: plan for plan, layer in zip(base_plans(base), base.layers, strict=True)}
        missing = [layer for layer in base.layers if not self.layout.has(layer.digest)]

        def told(layer: BaseLayer, done: int) -> None:
            self.board.advance(rows[layer.digest], "fetching", done, layer.size)

        await fetch_layers(base, self.layout, self.registries, told)
        for layer in missing:
            self.board.fetched(rows[layer.digest], layer.size)
            self.board.settle(rows[layer.digest], Layer(layer.digest, layer.diff_id, layer.size), "reused")
