"""One build, from plan to image: base, resolve, fetch, layers, assemble, push."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from image_builder.assemble import assemble
from image_builder.base_step import base_plans
from image_builder.bytecode import compile_wheels
from image_builder.contents import describe
from image_builder.contract import SCRATCH, ImageReference, LayerState
from image_builder.engines.choose import choose
from image_builder.engines.packaged import Packager
from image_builder.engines.whole import assemble_whole, context_of, dockerfile_plans
from image_builder.job import Job, Reporter
from image_builder.layer_plan import LayerPlan, file_layers
from image_builder.layers.index import Layer
from image_builder.layers.make import Materials, make_layer
from image_builder.layers.tar import Entry
from image_builder.lock import Lock
from image_builder.oci.base import BaseImage, find_base
from image_builder.oci.reference import parse
from image_builder.plan import BuildPlan
from image_builder.progress import LayerBoard
from image_builder.publish import Publisher
from image_builder.wheel_step import resolve_and_fetch
from image_builder.work import StopFlag, each, in_thread
from image_builder.workshop import Workshop


async def build(plan: BuildPlan, workshop: Workshop, report: Reporter) -> ImageReference:
    """Make the image of a plan; nothing is done again that is there already.

    May be cancelled at any await: when CancelledError comes out, no thread, process or half-written blob is left.

    Raises:
        BuildError: with the words for the person who can mend it.
    """
    with workshop.leases.taken():
        async with await workshop.registries() as registries:
            return await _build(Job(plan, workshop, report, LayerBoard(report.layer), registries))


async def _build(job: Job) -> ImageReference:
    if job.plan.whole:
        return await _build_whole(job)
    job = await _based(job)
    lock, layers = await resolve_and_fetch(job)
    job.report.step("layers")
    made = await each(_layer(job, layer) for layer in layers)
    job.report.step("assemble")
    image = await in_thread(lambda _: _assemble(job, lock, layers, made))
    return await _delivered(job, image, layers)


async def _based(job: Job) -> Job:
    """The job, on the base image that was asked for as it is now."""
    request = job.plan.request
    if request.base_image == SCRATCH:
        return job
    job.report.step("base")
    named = request.base_image or f"python:{request.python}-slim"
    base = await find_base(named, request.platform, job.registries)
    job.report.base(base.reference)
    if job.plan.system_packages:
        base = await _packaged(job, base)
    async with job.workshop.making(base.digest):
        return replace(job, foundation=await job.groundwork.lay(base, request.python))


async def _packaged(job: Job, base: BaseImage) -> BaseImage:
    """The base with the system packages on it, which an engine makes once."""
    job.board.expect(base_plans(base))
    packager = Packager(job.workshop.engines, job.workshop.index, job.workshop.making, job.report.log)
    request, packages = job.plan.request, job.plan.system_packages
    return await packager.packaged(base, lambda: job.groundwork.complete(base), packages, request.engine)


async def _build_whole(job: Job) -> ImageReference:
    """The image of the project's own Dockerfile; what starts it comes on top."""
    plan, report = job.plan, job.report
    engine = await choose(job.workshop.engines, plan.request.engine)
    report.step("layers")
    report.log(f"{engine.name} builds {plan.request.source}/Dockerfile; libs and custom_packages are its own matter")
    built = await engine.build_dockerfile(context_of(plan), report.log)
    steps, ours = dockerfile_plans(built), [layer for layer in file_layers(plan) if layer.kind == "config"]
    job.board.expect([*steps, *ours])
    for step, layer in zip(steps, built.layers, strict=True):
        job.board.settle(step, layer, "built")
    launchers = await each(_layer(job, layer) for layer in ours)
    report.step("assemble")
    image = await in_thread(lambda _: assemble_whole(plan, built, launchers, job.workshop.layout))
    return await _delivered(job, image, [*steps, *ours])


async def _delivered(job: Job, image: ImageReference, layers: Sequence[LayerPlan]) -> ImageReference:
    """The image where it was asked for: in a registry, or whole in the builder's own store."""
    base = job.foundation.base if job.foundation else None
    if job.plan.request.push is None:
        if base is not None:
            await job.groundwork.complete(base)
        return image
    job.report.step("push")

    def told(layer: LayerPlan, state: LayerState | None, done: int) -> None:
        job.board.publish(layer, state, done)

    publisher = Publisher(
        parse(job.plan.request.push), job.workshop.layout, job.registries, job.workshop.pushed, told, base
    )
    rows = [*(base_plans(base) if base else ()), *layers]
    return image.model_copy(update={"pushed": await publisher.publish(image.digest, rows)})


def _assemble(job: Job, lock: Lock, layers: Sequence[LayerPlan], made: Sequence[Layer]) -> ImageReference:
    """The image, and a note of what is in it."""
    base = job.foundation.base if job.foundation else None
    image = assemble(job.plan, lock, list(zip(layers, made, strict=True)), job.workshop.layout, base)
    licenses = job.workshop.contents.licenses(lock.wheels, job.workshop.wheels.path)
    job.workshop.contents.keep(image.digest, describe(lock, layers, made, licenses))
    return image


async def _layer(job: Job, layer: LayerPlan) -> Layer:
    async with job.workshop.making(layer.key):
        known = job.workshop.index.layer(layer.key)
        if known is not None:
            job.board.settle(layer, known, "reused")
            return known
        async with job.workshop.slots:
            made = await _made(job, layer)
        job.board.settle(layer, made, "built")
        return made


async def _made(job: Job, layer: LayerPlan) -> Layer:
    compiler = job.plan.compiler
    if layer.kind != "bytecode" or compiler is None:
        return await in_thread(lambda flag: _make(job, layer, (), flag))
    job.board.advance(layer, "building", 0, 0)
    paths = _paths(job, layer)
    async with job.workshop.scratch.new() as folder:
        compiled = await compile_wheels(layer.wheels, paths, compiler, folder, job.report.log)
        return await in_thread(lambda flag: _make(job, layer, compiled, flag))


def _paths(job: Job, layer: LayerPlan) -> dict[str, Path]:
    return {wheel.sha256: job.workshop.wheels.path(wheel) for wheel in layer.wheels}


def _make(job: Job, layer: LayerPlan, compiled: Sequence[Entry], flag: StopFlag) -> Layer:
    def told(done: int, total: int) -> None:
        job.board.advance(layer, "building", done, total)

    told(0, 0)
    materials = Materials(job.plan, _paths(job, layer), job.workshop.layout, job.report.log, compiled)
    made = make_layer(layer, materials, told, flag)
    job.workshop.index.remember(layer.key, made)
    return made
