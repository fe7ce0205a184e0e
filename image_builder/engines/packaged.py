"""A base with system packages is a base like any other, with one layer more."""

from __future__ import annotations

import hashlib
import textwrap
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace
from typing import Any

from image_builder.engines.apt import SystemPackage, layer_key
from image_builder.engines.choose import choose
from image_builder.engines.engine import Bring, Engine, Log
from image_builder.layers.index import Layer, LayerIndex
from image_builder.oci.base import BaseImage, BaseLayer
from image_builder.oci.image import LAYER_TYPE
from image_builder.work import in_thread

_LONGEST = 60
"""Of the names in a layer's title."""


@dataclass(frozen=True, slots=True)
class Packager:
    """What it takes. making: held while a key's layer is made, so that two builds do not make the same one."""

    engines: Sequence[Engine]
    index: LayerIndex
    making: Callable[[str], AbstractAsyncContextManager[Any]]
    log: Log

    async def packaged(
        self, base: BaseImage, bring: Bring, packages: Sequence[SystemPackage], asked: str | None
    ) -> BaseImage:
        """The base with the packages on it. No engine is asked where this was done before, for whatever project.

        Args:
            bring: as `Engine.with_packages` has it.
            asked: name of the engine to use; None for any.

        Raises:
            BuildError: as `choose` and `Engine.with_packages`.
        """
        key = layer_key(base.digest, packages)
        async with self.making(key):
            by = ""
            layer = await in_thread(lambda _: self.index.layer(key))
            if layer is None:
                engine = await choose(self.engines, asked)
                by = engine.name
                self.log(f"{engine.name} puts {_names(packages)} on the base image")
                layer = made = await engine.with_packages(base, bring, packages, self.log)
                await in_thread(lambda _: self.index.remember(key, made))
            else:
                self.log(f"the layer with {_names(packages)} was made before")
        return with_layer(base, layer, packages, by)


def with_layer(base: BaseImage, layer: Layer, packages: Sequence[SystemPackage], by: str = "") -> BaseImage:
    """Its digest is of no manifest that exists: it names what is in it, for what is remembered by it. Pure.

    by: the engine that made the layer now; empty if it was made before.
    """
    digest = hashlib.sha256(f"{base.digest} {layer.digest}".encode()).hexdigest()
    title = f"apt {textwrap.shorten(_names(packages), _LONGEST, placeholder=' …')}{f' by {by}' if by else ''}"
    top = BaseLayer(layer.digest, layer.diff_id, layer.size, LAYER_TYPE, title, made=bool(by))
    config = _config(base.config, layer, f"cloud-deploy: apt-get install {_names(packages)}")
    return replace(base, digest=f"sha256:{digest}", config=config, layers=(*base.layers, top))


def _config(config: Mapping[str, Any], layer: Layer, created_by: str) -> dict[str, Any]:
    rootfs = config["rootfs"]
    history = list(config.get("history") or [])
    # A history that is not whole is left to whoever reads it.
    whole = sum(not row.get("empty_layer") for row in history) == len(rootfs["diff_ids"])
    return {
        **config,
        "rootfs": {**rootfs, "diff_ids": [*rootfs["diff_ids"], layer.diff_id]},
        "history": [*history, {"created_by": created_by}] if whole else history,
    }


def _names(packages: Sequence[SystemPackage]) -> str:
    return " ".join(row.text for row in packages)
