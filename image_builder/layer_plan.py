"""Which layers an image has, in which order, and the content key of each. Pure."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from image_builder.contract import LayerKind
from image_builder.errors import BuildError
from image_builder.lock import PinnedWheel
from image_builder.oci.base_tree import NOTHING_UNUSUAL, Underlay
from image_builder.plan import FORMAT, BuildPlan
from image_builder.source_tree import SourceFile

LARGE = 100_000
"""Bytes from which a wheel gets a layer of its own: what is added or changed is then all that is sent."""
_LAYERS_MAX = 100
"""Of an image, its base included; old engines stop at 126."""
_OTHERS = 5
"""Layers of an image besides base and large wheels, at most: small wheels, their bytecode, weights, program, config."""


@dataclass(frozen=True, slots=True)
class LayerPlan:
    """One layer to be. Same key, same bytes. name: identifies it within the image, for people.

    under: what of the base its entries pass. interpreter: of the base, absolute, where the layer makes links to it.
    """

    name: str
    kind: LayerKind
    key: str
    wheels: tuple[PinnedWheel, ...] = ()
    files: tuple[SourceFile, ...] = ()
    under: Underlay = NOTHING_UNUSUAL
    interpreter: str = ""


def wheel_layers(
    wheels: Sequence[PinnedWheel], sizes: Mapping[str, int], python: str, *, base: int = 0, each: int = 1
) -> list[LayerPlan]:
    """Large wheels one by one, the largest first; the small ones together, after them.

    Args:
        sizes: sha256 -> bytes, of every wheel.
        base: layers of the base.
        each: layers that a large wheel means: 2 if there is one of bytecode for it.

    Raises:
        BuildError: code `too_many_layers`: the base leaves no room.
    """
    by_size = sorted(wheels, key=lambda wheel: (-sizes[wheel.sha256], wheel.name))
    large = [wheel for wheel in by_size if sizes[wheel.sha256] >= LARGE][: _room(base) // each]
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


def _room(base: int) -> int:
    """How many layers there may be of large wheels."""
    room = _LAYERS_MAX - base - _OTHERS
    if room < 0:
        raise BuildError(
            f"the base image has {base} layers; with ours an image may have {_LAYERS_MAX}",
            "Name a base image with fewer layers.",
            code="too_many_layers",
        )
    return room


def over(layer: LayerPlan, under: Underlay) -> LayerPlan:
    """The layer for a base. One that passes nothing unusual is the same on every base: it is made and sent once."""
    return replace(layer, key=_key("over", layer=layer.key, **asdict(under)), under=under) if under else layer


def file_layers(plan: BuildPlan, interpreter: str = "") -> list[LayerPlan]:
    """Weights (if any), the program, and what starts it, if that needs something: links to the interpreter of the
    base, or commands to be run before.
    """
    layers = []
    if plan.weights:
        layers.append(_file_layer("weights", plan.weights, plan.workdir))
    layers.append(_file_layer("program", plan.files, plan.workdir))
    if plan.pre_exec or interpreter:
        linked = {"interpreter": interpreter, "python": plan.request.python} if interpreter else {}
        started = {"pre_exec": plan.pre_exec, "entrypoint": plan.entrypoint} if plan.pre_exec else {}
        key = _key("config", **started, **linked)
        layers.append(LayerPlan("config", "config", key, interpreter=interpreter))
    return layers


def _wheel_layer(kind: LayerKind, wheels: tuple[PinnedWheel, ...], python: str, name: str) -> LayerPlan:
    return LayerPlan(name, kind, _key("wheels", python=python, wheels=_identities(wheels)), wheels=wheels)


def _identities(wheels: Sequence[PinnedWheel]) -> list[tuple[str, str]]:
    """The file name counts: it says what the wheel is."""
    return sorted((wheel.sha256, wheel.filename) for wheel in wheels)


def _file_layer(kind: LayerKind, files: tuple[SourceFile, ...], workdir: str) -> LayerPlan:
    digest = hashlib.sha256(_key("files", workdir=workdir).encode())
    for file in files:  # one by one: there may be hundreds of thousands
        digest.update(json.dumps([file.path, file.kind, file.mode, file.size, file.sha256, file.target]).encode())
    return LayerPlan(kind, kind, digest.hexdigest(), files=files)


def _key(kind: str, **parts: Any) -> str:
    text = json.dumps({"format": FORMAT, "kind": kind, **parts}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()
