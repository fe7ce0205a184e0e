"""An image to a registry, with as few bytes as can be; the tag comes last, so that nobody finds half an image."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from image_builder.contract import LayerState
from image_builder.layer_plan import LayerPlan
from image_builder.oci.base import BaseImage, fetch_layer
from image_builder.oci.image import MANIFEST_TYPE
from image_builder.oci.layout import Layout
from image_builder.oci.pushed import Pushed
from image_builder.oci.reference import Reference, parse
from image_builder.oci.registries import Registries
from image_builder.work import each, in_thread

_AT_A_TIME = 4

Told = Callable[[LayerPlan, LayerState | None, int], None]
"""Told the state of a layer (None: it was there already) and the bytes sent."""


@dataclass(frozen=True, slots=True)
class Publisher:
    """One image on its way. base: whose layers come first in the manifest, and may lie in its registry only."""

    target: Reference
    layout: Layout
    registries: Registries
    pushed: Pushed
    told: Told
    base: BaseImage | None = None

    async def publish(self, manifest: str, layers: Sequence[LayerPlan]) -> str:
        """Make the image be in the target's repository under its tag; its name there, by digest.

        Args:
            manifest: digest; it and the configuration are in the layout.
            layers: all of the manifest's, in its order.

        Raises:
            BuildError: as `Registry.push_blob`; then the tag is what it was.
        """
        data = await in_thread(lambda _: self.layout.path(manifest).read_bytes())
        described: dict[str, Any] = json.loads(data)
        slots = asyncio.Semaphore(_AT_A_TIME)
        rows = {row["digest"]: layer for row, layer in zip(described["layers"], layers, strict=True)}
        await each(self._layer(digest, layer, slots) for digest, layer in rows.items())
        registry = self.registries.of(self.target)
        config = described["config"]["digest"]
        await registry.push_blob(self.target, config, self.layout.path(config))
        if await registry.manifest_digest(self.target) != manifest:
            await registry.push_manifest(self.target, data, MANIFEST_TYPE)
        return f"{self.target.registry}/{self.target.repository}@{manifest}"

    async def _layer(self, digest: str, layer: LayerPlan, slots: asyncio.Semaphore) -> None:
        async with slots:
            source = await in_thread(lambda _: self._elsewhere(digest))
            outcome = await self.registries.of(self.target).push_blob(
                self.target,
                digest,
                lambda: self._here(digest, layer),
                mount_from=source,
                sent=lambda done: self.told(layer, "pushing", done),
            )
            self.told(layer, None if outcome == "reused" else outcome, 0)
            await in_thread(lambda _: self.pushed.remember(self.target, digest, anew=outcome == "uploaded"))

    async def _here(self, digest: str, layer: LayerPlan) -> Path:
        """A layer of the base comes through the layout: an upload that breaks is taken up from there."""
        rows = self.base.layers if self.base is not None else ()
        wanted = next((row for row in rows if row.digest == digest), None)
        if self.base is not None and wanted is not None:
            await fetch_layer(
                self.base, wanted, self.layout, self.registries, lambda _, done: self.told(layer, "fetching", done)
            )
        self.told(layer, "pushing", 0)
        return self.layout.path(digest)

    def _elsewhere(self, digest: str) -> str | None:
        """Another repository of the target's registry that has, or had, the blob."""
        if self.base is not None and any(layer.digest == digest for layer in self.base.layers):
            home = parse(self.base.reference)
            if home.registry == self.target.registry:
                return home.repository if home.repository != self.target.repository else None
        known = self.pushed.repository(self.target.registry, digest)
        return known if known != self.target.repository else None
