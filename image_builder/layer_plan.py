"""Which layers an image has, in which order, and the content key of each. Pure."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from image_builder.contract import LayerKind
from image_builder.lock import PinnedWheel
from image_builder.plan import FORMAT, BuildPlan
from image_builder.source_tree import SourceFile

LARGE = 10_000_000
"""Bytes from which a wheel gets a layer of its own."""
_WHEEL_LAYERS_MAX = 45
"""Each with one of bytecode beside it. Of the 100 layers that an image may have (old engines stop at 126 in all), the
rest is for a base and the program."""


@dataclass(frozen=True, slots=True)
class LayerPlan:
    """One layer to be. Same key, same bytes. name: identifies it within the image, for people."""

    name: str
    kind: LayerKind
    key: str
    wheels: tuple[PinnedWheel, ...] = ()
    files: tuple[SourceFile, ...] = ()


def wheel_layers(wheels: Sequence[PinnedWheel], sizes: Mapping[str, int], python: str) -> list[LayerPlan]:
    """Large wheels one by one, the largest first; the small ones together, after them.

    Args:
        sizes: sha256 -> bytes, of every wheel.
    """
    by_size = sorted(wheels, key=lambda wheel: (-sizes[wheel.sha256], wheel.name))
    large = [wheel for wheel in by_size if sizes[wheel.sha256] >= LARGE][:_WHEEL_LAYERS_MAX]
    small = tuple(wheel for wheel in wheels if wheel not in large)
    layers = [_wheel_layer("wheel", (wheel,), python, f"{wheel.name} {wheel.version}") for wheel in large]
    if small:
        name = "1 package" if len(small) == 1 else f"{len(small)} packages"
        layers.append(_wheel_layer("wheels", small, python, name))
    return layers


def bytecode_layers(layers: Sequence[LayerPlan], python: str, magic: str) -> list[LayerPlan]:
    """One for each layer of wheels, in their order: where two wheels bring one module, the same one wins again.

    Args:
        magic: hex, names the kind of bytecode.
    """
    return [
        LayerPlan(
            f"bytecode of {layer.name}",
            "bytecode",
            _key("bytecode", python=python, magic=magic, wheels=_identities(layer.wheels)),
            wheels=layer.wheels,
        )
        for layer in layers
    ]


def file_layers(plan: BuildPlan) -> list[LayerPlan]:
    """Weights (if any), the program, and the launcher (if there is something to run before the program)."""
    layers = []
    if plan.weights:
        layers.append(_file_layer("weights", plan.weights, plan.workdir))
    layers.append(_file_layer("program", plan.files, plan.workdir))
    if plan.pre_exec:
        key = _key("config", pre_exec=plan.pre_exec, entrypoint=plan.entrypoint)
        layers.append(LayerPlan("config", "config", key))
    return layers


def _wheel_layer(kind: LayerKind, wheels: tuple[PinnedWheel, ...], python: str, name: str) -> LayerPlan:
    return LayerPlan(name, kind, _key("wheels", python=python, wheels=_identities(wheels)), wheels=wheels)


def _identities(wheels: Sequence[PinnedWheel]) -> list[tuple[str, str]]:
    """The file name counts: it says what the wheel is."""
    return sorted((wheel.sha256, wheel.filename) for wheel in wheels)


def _file_layer(kind: LayerKind, files: tuple[SourceFile, ...], workdir: str) -> LayerPlan:
    key = _key("files", workdir=workdir, files=[asdict(file) for file in files])
    return LayerPlan(kind, kind, key, files=files)


def _key(kind: str, **parts: Any) -> str:
    text = json.dumps({"format": FORMAT, "kind": kind, **parts}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()
