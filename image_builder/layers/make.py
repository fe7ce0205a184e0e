"""One layer, from what goes in to the blob in the layout. Blocking: runs in a thread."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from image_builder.errors import ResolveFailed
from image_builder.growing_file import GrowingFile
from image_builder.layer_plan import LayerPlan
from image_builder.layers.files import file_entries, launcher_entries
from image_builder.layers.gzip_chain import BadDeflate, GzipChain
from image_builder.layers.index import Layer
from image_builder.layers.tar import Entry, PathConflict, write_tar
from image_builder.layers.venv import venv_entries
from image_builder.layers.wheel_member import sound
from image_builder.layers.wheels import wheel_entries
from image_builder.oci.base_tree import Underlay
from image_builder.oci.layout import Layout
from image_builder.plan import BuildPlan
from image_builder.work import StopFlag

Progress = Callable[[int, int], None]
"""Told (bytes done, bytes in all), uncompressed."""


@dataclass(frozen=True, slots=True)
class Materials:
    """What layers are made of, and where they go. wheel_paths: sha256 -> file, of the layer's wheels. compiled: the
    entries of a layer of bytecode. follower: reads the blob while it is written.
    """

    plan: BuildPlan
    wheel_paths: Mapping[str, Path]
    layout: Layout
    log: Callable[[str], None]
    compiled: Sequence[Entry] = ()
    follower: GrowingFile | None = None


def make_layer(layer: LayerPlan, materials: Materials, progress: Progress, flag: StopFlag) -> Layer:
    """Write one layer.

    Raises:
        SourceChanged, ResolveFailed (an unsound wheel), DiskFull
    """
    with contextlib.ExitStack() as opened:
        entries = _placed(_entries(layer, materials, opened), layer.under)
        total = sum(entry.content.size for entry in entries)
        writer = opened.enter_context(materials.layout.writer(expected=_expected(layer, materials, total)))
        sink: Callable[[bytes], None] = writer.write
        if materials.follower is not None:
            materials.follower.begin(writer.path)
            sink = materials.follower.grown(sink)
        chain = opened.enter_context(GzipChain(sink, lambda done: progress(min(done, total), total)))
        diff_id = _written(layer, entries, chain, flag)
        flag.check()
        made = Layer(writer.commit(), diff_id, writer.size)
        if materials.follower is not None:
            materials.follower.end()
        return made


def _written(layer: LayerPlan, entries: list[Entry], chain: GzipChain, flag: StopFlag) -> str:
    """The diff id of the whole."""
    try:
        write_tar(entries, chain, flag, layer.under.folders)
        return chain.close()
    except PathConflict as error:
        raise ResolveFailed(
            f"{layer.name}: {error}", "Leave one of the packages out, or pin another version.", code="path_conflict"
        ) from error
    except BadDeflate as error:  # found on the side, when the member's own call had ended
        with sound(error.name):
            raise


def _placed(entries: list[Entry], under: Underlay) -> list[Entry]:
    """A path that names a link of the base as a folder would hide all that lies behind the link."""
    if not under:
        return entries
    return [
        replace(entry, path=under.real(entry.path) if entry.kind == "folder" else under.place(entry.path))
        for entry in entries
    ]


def _entries(layer: LayerPlan, materials: Materials, opened: contextlib.ExitStack) -> list[Entry]:
    plan = materials.plan
    if layer.kind == "config":
        launcher = launcher_entries(plan.pre_exec, plan.entrypoint) if plan.pre_exec else []
        return [*launcher, *(venv_entries(layer.interpreter, plan.request.python) if layer.interpreter else [])]
    if layer.kind in ("program", "weights"):
        return file_entries(plan.source, layer.files, plan.workdir)
    if layer.kind == "bytecode":
        return list(materials.compiled)
    return wheel_entries(layer.wheels, materials.wheel_paths, plan.request.python, opened, materials.log)


def _expected(layer: LayerPlan, materials: Materials, total: int) -> int:
    """About how many bytes the blob will have, for the words of a full disk."""
    if layer.wheels and layer.kind != "bytecode":
        return sum(materials.wheel_paths[wheel.sha256].stat().st_size for wheel in layer.wheels)
    return total
