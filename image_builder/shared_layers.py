"""Layers that other machines made, and that lie in the registry to which the image goes: nothing is fetched for them,
made, or sent."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from image_builder.layer_plan import LayerPlan
from image_builder.layers.index import Layer, LayerIndex
from image_builder.oci.layer_notes import LayerNotes, worth_noting
from image_builder.oci.pushed import Pushed
from image_builder.work import in_thread


class SharedLayers:
    """Of one build. What a registry was found to have is remembered, so that it is asked once."""

    def __init__(self, notes: LayerNotes, pushed: Pushed, index: LayerIndex) -> None:
        self._notes = notes
        self._pushed = pushed
        self._index = index
        self._first, self._begun = asyncio.Lock(), False

    @property
    def repository(self) -> str:
        """Where they lie, to be mounted from."""
        return self._notes.repository

    async def find(self, layers: Sequence[LayerPlan]) -> dict[str, Layer]:
        """By content key: those of `layers` that are not here, yet there. Trouble with the registry finds nothing."""
        missing = [key for key in worth_noting(layers) if self._index.layer(key) is None]
        known = {key: layer for key in missing if (layer := self._pushed.layer(self._notes.home, key))}
        found = await self._notes.look_up([key for key in missing if key not in known])
        await in_thread(lambda _: self._remember(found))
        return known | found

    async def note(self, layer: LayerPlan, made: Layer) -> None:
        """Let other machines know of a layer that the target's repository has now."""
        if not worth_noting([layer]) or self._pushed.layer(self._notes.home, layer.key) == made:
            return
        if await self._noted({layer.key: made}):
            await in_thread(lambda _: self._remember({layer.key: made}))

    async def _noted(self, layers: dict[str, Layer]) -> bool:
        """The first alone: it may make the notes' repository, or be refused for all."""
        async with self._first:
            first, self._begun = not self._begun, True
            noted = await self._notes.note(layers) if first else False
        return noted if first else await self._notes.note(layers)

    def _remember(self, layers: dict[str, Layer]) -> None:
        for key, layer in layers.items():
            self._pushed.remember_layer(self._notes.home, key, layer)
