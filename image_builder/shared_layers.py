"""Layers that are not here, but in the registry to which the image goes: nothing is fetched for them, made or sent.

Other machines made them and noted it there, or this one did, and has cleared its cache since.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from image_builder.layer_plan import LayerPlan
from image_builder.layers.index import Layer, LayerIndex
from image_builder.oci.layer_notes import LayerNotes, worth_noting
from image_builder.oci.pushed import Pushed
from image_builder.oci.reference import Reference
from image_builder.work import in_thread


class SharedLayers:
    """Of one build. What a registry was found to have is remembered, so that it is asked once."""

    def __init__(self, target: Reference, notes: LayerNotes | None, pushed: Pushed, index: LayerIndex) -> None:
        """notes: None where layers are not to be shared with others."""
        self._own = f"{target.registry}/{target.repository}"
        self._notes = notes
        self._pushed = pushed
        self._index = index
        self._first, self._begun = asyncio.Lock(), False

    @property
    def repository(self) -> str | None:
        """Where those of others lie, to be mounted from."""
        return self._notes.repository if self._notes else None

    async def find(self, layers: Sequence[LayerPlan]) -> dict[str, Layer]:
        """By content key: those of `layers` that are not here, yet there. Trouble with the registry finds nothing."""
        missing = [layer for layer in layers if self._index.layer(layer.key) is None]
        known = {layer.key: there for layer in missing if (there := self._remembered(layer))}
        if self._notes is None:
            return known
        found = await self._notes.look_up([key for key in worth_noting(missing) if key not in known])
        await in_thread(lambda _: self._remember(self._home, found))
        return known | found

    async def note(self, layer: LayerPlan, made: Layer) -> None:
        """Remember a layer that the target's repository has now, and let other machines know, if it is of use there."""
        if self._pushed.layer(self._own, layer.key) != made:
            await in_thread(lambda _: self._remember(self._own, {layer.key: made}))
        if not worth_noting([layer]) or self._notes is None or self._pushed.layer(self._home, layer.key) == made:
            return
        if await self._noted(self._notes, {layer.key: made}):
            await in_thread(lambda _: self._remember(self._home, {layer.key: made}))

    def surely_new(self, layer: LayerPlan) -> bool:
        """Whether the target's repository lacks a layer that is neither here nor in `find`: then it need not be asked.

        A project's own files may have been sent by a builder that knows nothing of it any more.
        """
        return bool(worth_noting([layer])) or self._pushed.knows(self._own)

    @property
    def _home(self) -> str:
        return self._notes.home if self._notes else ""

    def _remembered(self, layer: LayerPlan) -> Layer | None:
        theirs = self._pushed.layer(self._home, layer.key) if self._notes and worth_noting([layer]) else None
        return self._pushed.layer(self._own, layer.key) or theirs

    async def _noted(self, notes: LayerNotes, layers: dict[str, Layer]) -> bool:
        """The first alone: it may make the notes' repository, or be refused for all."""
        async with self._first:
            first, self._begun = not self._begun, True
            noted = await notes.note(layers) if first else False
        return noted if first else await notes.note(layers)

    def _remember(self, where: str, layers: dict[str, Layer]) -> None:
        for key, layer in layers.items():
            self._pushed.remember_layer(where, key, layer)
