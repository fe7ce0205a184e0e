"""An image to a registry, with as few bytes as can be; the tag comes last, so that nobody finds half an image."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from image_builder.contract import LayerState
from image_builder.errors import BuildError
from image_builder.growing_file import GrowingFile
from image_builder.layer_plan import LayerPlan
from image_builder.oci.base import BaseImage, fetch_layer
from image_builder.oci.image import MANIFEST_TYPE
from image_builder.oci.layout import Layout
from image_builder.oci.pushed import Pushed
from image_builder.oci.reference import Reference, parse
from image_builder.oci.registries import Registries
from image_builder.work import in_thread

_AT_A_TIME = 4

Outcome = Literal["reused", "mounted", "uploaded"]
Told = Callable[[LayerPlan, LayerState | None, int], None]
"""Told the state of a layer (None: it was there already) and the bytes sent."""


@dataclass(frozen=True, slots=True)
class Sending:
    """What images are sent with. making: held while a blob is sent, so that two builds do not send the same one."""

    registries: Registries
    layout: Layout
    pushed: Pushed
    making: Callable[[str], AbstractAsyncContextManager[None]]
    told: Told


class Publisher:
    """One image on its way: its layers as they come, in any order, then the image itself."""

    def __init__(self, target: Reference, sending: Sending, base: BaseImage | None = None) -> None:
        """base: whose layers come first in the manifest, and may lie in its registry only."""
        self._target = target
        self._with = sending
        self._base = base
        self._slots = asyncio.Semaphore(_AT_A_TIME)

    async def follow(self, growing: GrowingFile) -> str | None:
        """Send a layer while it is made; what `layer` is then told of. None if that did not work out."""
        await growing.begun.wait()
        return await self._with.registries.of(self._target).follow(self._target, growing.pieces)

    async def layer(self, digest: str, layer: LayerPlan, begun: str | None = None) -> None:
        """Make a layer be in the target's repository.

        Raises:
            BuildError: as `Registry.push_blob`.
        """
        async with self._with.making(f"send {self._target.registry} {digest}"), self._slots:
            registry = self._with.registries.of(self._target)
            if begun and await registry.finish(self._target, begun, digest):
                outcome: Outcome = "uploaded"
            else:
                outcome = await registry.push_blob(
                    self._target,
                    digest,
                    lambda: self._here(digest, layer),
                    mount_from=await in_thread(lambda _: self._elsewhere(digest)),
                    sent=lambda done: self._with.told(layer, "pushing", done),
                )
            self._with.told(layer, None if outcome == "reused" else outcome, 0)
            await in_thread(lambda _: self._with.pushed.remember(self._target, digest, anew=outcome == "uploaded"))

    async def taken_over(self, digest: str, repository: str | None) -> Literal["reused", "mounted"] | None:
        """Have a layer be in the target's repository that is there, or in another one; None if that cannot be."""
        registry = self._with.registries.of(self._target)
        async with self._slots:
            try:
                if await registry.has_blob(self._target, digest):
                    return "reused"
                mounted = repository and await registry.mount(self._target, digest, repository)
                return "mounted" if mounted else None
            except BuildError:
                return None  # it is then made here, and the registry has its say when it is sent

    async def image(self, manifest: str) -> str:
        """Publish the image under the target's tag; its name there, by digest.

        Args:
            manifest: digest; it and the configuration are in the layout, all its layers were sent.

        Raises:
            BuildError: as `Registry.push_blob`; then the tag is what it was.
        """
        layout, target = self._with.layout, self._target
        data = await in_thread(lambda _: layout.path(manifest).read_bytes())
        config = json.loads(data)["config"]["digest"]
        registry = self._with.registries.of(target)
        await registry.push_blob(target, config, layout.path(config))
        if await registry.manifest_digest(target) != manifest:
            await registry.push_manifest(target, data, MANIFEST_TYPE)
        return f"{target.registry}/{target.repository}@{manifest}"

    async def _here(self, digest: str, layer: LayerPlan) -> Path:
        """A layer of the base comes through the layout: an upload that breaks is taken up from there."""
        told = self._with.told
        rows = self._base.layers if self._base is not None else ()
        wanted = next((row for row in rows if row.digest == digest), None)
        if self._base is not None and wanted is not None:
            await fetch_layer(
                self._base,
                wanted,
                self._with.layout,
                self._with.registries,
                lambda _, done: told(layer, "fetching", done),
            )
        told(layer, "pushing", 0)
        return self._with.layout.path(digest)

    def _elsewhere(self, digest: str) -> str | None:
        """Another repository of the target's registry that has, or had, the blob."""
        if self._base is not None and any(layer.digest == digest for layer in self._base.layers):
            home = parse(self._base.reference)
            if home.registry == self._target.registry:
                return home.repository if home.repository != self._target.repository else None
        known = self._with.pushed.repository(self._target.registry, digest)
        return known if known != self._target.repository else None
