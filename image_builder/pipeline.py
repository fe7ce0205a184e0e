"""One build, from plan to image: base, resolve, fetch what has no known size, layers, assemble, push."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from image_builder.assemble import assemble
from image_builder.base_step import base_plans
from image_builder.contents import describe
from image_builder.contract import SCRATCH, ImageReference
from image_builder.engines.choose import choose
from image_builder.engines.engine import Built
from image_builder.engines.packaged import Packager
from image_builder.engines.whole import assemble_whole, context_of, dockerfile_plans, whole_contents
from image_builder.errors import FetchFailed
from image_builder.job import Job, Reporter
from image_builder.layer_plan import file_layers
from image_builder.layer_step import layers_ready
from image_builder.layers.index import Layer
from image_builder.lock import Lock
from image_builder.oci.base import BaseImage
from image_builder.oci.layer_notes import LayerNotes
from image_builder.oci.reference import parse
from image_builder.plan import BuildPlan
from image_builder.progress import LayerBoard
from image_builder.publish import Publisher, Sending
from image_builder.shared_layers import SharedLayers
from image_builder.wheel_step import Planned, forget_lock, planned_layers
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
        return await _build_whole(_publishing(job))
    job = _publishing(await _based(job))
    planned, made = await _layers(job)
    job.report.step("assemble")
    image = await in_thread(lambda _: _assemble(job, planned, made))
    return await _delivered(job, image)


async def _layers(job: Job) -> tuple[Planned, list[Layer]]:
    """A lock made earlier may name what the index has no longer: then it is made again, once."""
    try:
        return await _planned_and_made(job)
    except FetchFailed as error:
        if error.problem.retryable:
            raise
        job.report.log(f"{error.problem.cause}; the requirements are resolved again")
    await forget_lock(job)
    return await _planned_and_made(job)


async def _planned_and_made(job: Job) -> tuple[Planned, list[Layer]]:
    planned = await planned_layers(job)
    job.report.step("layers")
    return planned, await layers_ready(job, planned)


async def _based(job: Job) -> Job:
    """The job, on the base image that was asked for: as it is now, or as an earlier try of this build found it."""
    request = job.plan.request
    if request.base_image == SCRATCH:
        return job
    job.report.step("base")
    named = job.plan.base or request.base_image or f"python:{request.python}-slim"
    base = await job.groundwork.found(named, request.platform, job.report.log)
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
    launchers = await layers_ready(job, Planned(Lock("", ()), tuple(ours)))
    await in_thread(lambda _: _remember(job, built))
    if job.publisher is not None:
        await each(job.publisher.layer(layer.digest, step) for step, layer in zip(steps, built.layers, strict=True))
    report.step("assemble")
    image = await in_thread(lambda flag: _assemble_whole(job, built, launchers, flag))
    return await _delivered(job, image)


def _remember(job: Job, built: Built) -> None:
    """Where the engine put its layers, so that they need not be sent once more."""
    if built.reference is not None:
        for layer in built.layers:
            job.workshop.pushed.remember(parse(built.reference), layer.digest)


def _publishing(job: Job) -> Job:
    """The job with what sends its image to a registry, if it goes to one."""
    if job.plan.request.push is None:
        return job
    workshop, target = job.workshop, parse(job.plan.request.push)
    sending = Sending(job.registries, workshop.layout, workshop.pushed, workshop.making, job.board.publish)
    notes = LayerNotes(job.registries, target, job.report.log) if workshop.shares_layers else None
    shared = SharedLayers(target, notes, workshop.pushed, workshop.index)
    return replace(job, publisher=Publisher(target, sending, job.base), shared=shared)


async def _delivered(job: Job, image: ImageReference) -> ImageReference:
    """The image where it was asked for: in a registry, or whole in the builder's own store."""
    if job.publisher is not None:
        job.report.step("push")
        return image.model_copy(update={"pushed": await job.publisher.image(image.digest)})
    if job.base is not None:
        await job.groundwork.complete(job.base)
    return image


def _assemble(job: Job, planned: Planned, made: Sequence[Layer]) -> ImageReference:
    """The image, and a note of what is in it."""
    rows = list(zip(planned.layers, made, strict=True))
    image = assemble(job.plan, planned.lock, rows, job.workshop.layout, job.base)
    software = job.foundation.tree.software if job.foundation else None
    licenses = job.workshop.contents.licenses(planned.lock.wheels, job.workshop.wheels.path)
    job.workshop.contents.keep(image.digest, describe(planned.lock, planned.layers, made, licenses, software))
    return image


def _assemble_whole(job: Job, built: Built, launchers: Sequence[Layer], flag: StopFlag) -> ImageReference:
    """The same for the image of a Dockerfile."""
    image = assemble_whole(job.plan, built, launchers, job.workshop.layout)
    job.workshop.contents.keep(image.digest, whole_contents(built, launchers, job.workshop.layout, flag))
    return image
