"""One layer, from what goes in to the blob in the layout. Blocking: runs in a thread."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from image_builder.errors import ResolveFailed
from image_builder.layer_plan import LayerPlan
from image_builder.layers.files import file_entries, launcher_entries
from image_builder.layers.gzip_chain import GzipChain
from image_builder.layers.index import Layer
from image_builder.layers.tar import Bytes, Entry, PathConflict, write_tar
from image_builder.layers.wheel import Member, Wheel
from image_builder.oci.layout import Layout
from image_builder.plan import BuildPlan
from image_builder.work import StopFlag

Progress = Callable[[int, int], None]
"""Told (bytes done, bytes in all), uncompressed."""


@dataclass(frozen=True, slots=True)
class Materials:
    """What layers are made of, and where they go. wheel_paths: sha256 -> file, of the layer's wheels."""

    plan: BuildPlan
    wheel_paths: Mapping[str, Path]
    layout: Layout
    log: Callable[[str], None]


def make_layer(layer: LayerPlan, materials: Materials, progress: Progress, flag: StopFlag) -> Layer:
    """Write one layer.

    Raises:
        SourceChanged, ResolveFailed (an unsound wheel), DiskFull
    """
    with contextlib.ExitStack() as opened:
        entries = _entries(layer, materials, opened)
        total = sum(entry.content.size for entry in entries)
        writer = opened.enter_context(materials.layout.writer(expected=_expected(layer, materials, total)))
        chain = opened.enter_context(GzipChain(writer.write, lambda done: progress(min(done, total), total)))
        try:
            write_tar(entries, chain, flag)
        except PathConflict as error:
            raise ResolveFailed(
                f"{layer.name}: {error}", "Leave one of the packages out, or pin another version.", code="path_conflict"
            ) from error
        diff_id = chain.close()
        flag.check()
        return Layer(writer.commit(), diff_id, writer.size)


def _entries(layer: LayerPlan, materials: Materials, opened: contextlib.ExitStack) -> list[Entry]:
    plan = materials.plan
    if layer.kind == "config":
        return launcher_entries(plan.pre_exec, plan.entrypoint)
    if layer.kind in ("program", "weights"):
        return file_entries(plan.source, layer.files, plan.workdir)
    found: dict[str, Entry] = {}
    for wheel in sorted(layer.wheels, key=lambda wheel: (wheel.name, wheel.sha256)):
        opening = Wheel(materials.wheel_paths[wheel.sha256], wheel.filename, plan.request.python)
        opened.callback(opening.close)
        _merge(found, opening.entries(), wheel.name, materials.log)
    return list(found.values())


def _merge(found: dict[str, Entry], entries: list[Entry], name: str, log: Callable[[str], None]) -> None:
    """As pip does where two packages bring the same path: the later one wins. Unlike pip, it is said."""
    own: set[str] = set()
    for entry in entries:
        if entry.path in own:
            raise ResolveFailed(
                f"the wheel of {name} holds {entry.path} twice", "Pin another version of the package.", code="bad_wheel"
            )
        own.add(entry.path)
        if entry.path in found and not _alike(found[entry.path], entry):
            log(f"{entry.path} comes with several packages; the one of {name} is used")
        found[entry.path] = entry


def _alike(one: Entry, other: Entry) -> bool:
    left, right = one.content, other.content
    if isinstance(left, Member) and isinstance(right, Member):
        return left.identity == right.identity
    return isinstance(left, Bytes) and isinstance(right, Bytes) and left.data == right.data


def _expected(layer: LayerPlan, materials: Materials, total: int) -> int:
    """About how many bytes the blob will have, for the words of a full disk."""
    if layer.wheels:
        return sum(materials.wheel_paths[wheel.sha256].stat().st_size for wheel in layer.wheels)
    return total
