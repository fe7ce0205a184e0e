"""One layer's way, side by side with all others: found, or fetched for and made; then sent where the image goes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from image_builder.base_step import base_plans
from image_builder.bytecode import compile_wheels
from image_builder.growing_file import GrowingFile
from image_builder.job import Job
from image_builder.layer_plan import LayerPlan
from image_builder.layers.index import Layer
from image_builder.layers.make import Materials, make_layer
from image_builder.layers.tar import Entry
from image_builder.lock import PinnedWheel
from image_builder.publish import Publisher
from image_builder.wheel_step import Planned
from image_builder.work import StopFlag, both, each, in_thread

_WORTH_FOLLOWING = 4 << 20
"""Bytes of what a layer is made of from which it is sent while it is made."""


async def layers_ready(job: Job, planned: Planned) -> list[Layer]:
    """The layers, in their order. Each is sent as soon as it is made, while others are made, the largest first.

    Raises:
        BuildError: as `fetch`, `make_layer` and `Publisher.layer`.
    """
    order = sorted(planned.layers, key=lambda layer: -planned.expected(layer))
    ours, _ = await both(each(layer_ready(job, layer, planned) for layer in order), _base_sent(job))
    made = dict(zip((layer.name for layer in order), ours, strict=True))
    return [made[layer.name] for layer in planned.layers]


async def layer_ready(job: Job, layer: LayerPlan, planned: Planned) -> Layer:
    """Raises as `layers_ready`."""
    if shared := await _shared(job, layer, planned):
        return shared
    made, begun = await _here(job, layer, planned)
    await each([_sent(job, layer, made, begun), in_thread(lambda _: _licensed(job, layer))])
    return made


async def _sent(job: Job, layer: LayerPlan, made: Layer, begun: str | None) -> None:
    if job.publisher is not None:
        await job.publisher.layer(made.digest, layer, begun)
    if job.shared is not None:
        await job.shared.note(layer, made)


def _licensed(job: Job, layer: LayerPlan) -> None:
    """What the note of the image's contents will say is looked up while there is time."""
    job.workshop.contents.licenses(layer.wheels, job.workshop.wheels.path)


async def _shared(job: Job, layer: LayerPlan, planned: Planned) -> Layer | None:
    """A layer of another machine, in the target's repository now."""
    there = planned.shared.get(layer.key)
    if there is None or job.publisher is None or job.shared is None:
        return None
    outcome = await job.publisher.taken_over(there.digest, job.shared.repository)
    if outcome is None:
        return None
    job.board.settle(layer, there, "reused")
    job.board.publish(layer, outcome if outcome == "mounted" else None)
    return there


async def _base_sent(job: Job) -> None:
    base, publisher = job.base, job.publisher
    if base is not None and publisher is not None:
        await each(publisher.layer(row.digest, plan) for plan, row in zip(base_plans(base), base.layers, strict=True))


async def _here(job: Job, layer: LayerPlan, planned: Planned) -> tuple[Layer, str | None]:
    """The layer, and the upload that was begun while it was made."""
    async with job.workshop.making(layer.key):
        known = job.workshop.index.layer(layer.key)
        if known is not None:
            job.board.settle(layer, known, "reused")
            return known, None
        await _fetched(job, layer, planned)
        if publisher := _follower(job, layer, planned):
            with GrowingFile() as growing:
                made, begun = await both(_made(job, layer, growing), publisher.follow(growing))
        else:
            made, begun = await _made(job, layer), None
        job.board.settle(layer, made, "built")
        return made, begun


def _follower(job: Job, layer: LayerPlan, planned: Planned) -> Publisher | None:
    """What sends a layer while it is made; None where the registry is asked first whether it has it."""
    if job.shared is None or layer.key in planned.shared or planned.expected(layer) < _WORTH_FOLLOWING:
        return None
    return job.publisher if job.shared.surely_new(layer) else None


async def _fetched(job: Job, layer: LayerPlan, planned: Planned) -> None:
    """Every wheel of the layer here."""
    if not layer.wheels:
        return
    total = planned.expected(layer)
    here: dict[str, int] = {}

    def told(wheel: PinnedWheel, done: int) -> None:
        here[wheel.sha256] = done
        job.board.advance(layer, "fetching", sum(here.values()), total)

    await job.workshop.wheels.fetch(layer.wheels, await job.workshop.resolver_environ(), told)
    came = [wheel for wheel in layer.wheels if wheel.sha256 in planned.absent]
    if came and layer.kind != "bytecode":
        job.board.fetched(layer, sum(planned.sizes[wheel.sha256] for wheel in came))


async def _made(job: Job, layer: LayerPlan, follower: GrowingFile | None = None) -> Layer:
    async with job.workshop.slots:
        compiler = job.plan.compiler
        if layer.kind != "bytecode" or compiler is None:
            return await in_thread(lambda flag: _make(job, layer, (), follower, flag))
        job.board.advance(layer, "building", 0, 0)
        async with job.workshop.scratch.new() as folder:
            compiled = await compile_wheels(layer.wheels, _paths(job, layer), compiler, folder, job.report.log)
            return await in_thread(lambda flag: _make(job, layer, compiled, follower, flag))


def _paths(job: Job, layer: LayerPlan) -> dict[str, Path]:
    return {wheel.sha256: job.workshop.wheels.path(wheel) for wheel in layer.wheels}


def _make(job: Job, layer: LayerPlan, compiled: Sequence[Entry], follower: GrowingFile | None, flag: StopFlag) -> Layer:
    def told(done: int, total: int) -> None:
        job.board.advance(layer, "building", done, total)

    told(0, 0)
    materials = Materials(job.plan, _paths(job, layer), job.workshop.layout, job.report.log, compiled, follower)
    made = make_layer(layer, materials, told, flag)
    job.workshop.index.remember(layer.key, made)
    return made
