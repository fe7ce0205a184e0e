"""From requirements to wheels that are here, and the layers that they will be."""

from __future__ import annotations

from collections.abc import Mapping

from image_builder.errors import FetchFailed
from image_builder.interpreters import here, libc_here
from image_builder.job import Job
from image_builder.layer_plan import LayerPlan, bytecode_layers, file_layers, over, wheel_layers
from image_builder.lock import UNKNOWN_BASE, Lock, PinnedWheel
from image_builder.oci.software import Libc
from image_builder.resolve import Wishes, check_built, forget, resolve
from image_builder.source_wheels import Target
from image_builder.work import each, in_thread


async def resolve_and_fetch(job: Job) -> tuple[Lock, list[LayerPlan]]:
    """A lock whose wheels are here. A lock made earlier may name what the index has no longer: it is made again."""
    wishes = await _wishes(job)
    try:
        return await _bring(job, await _resolve(job, wishes))
    except FetchFailed as error:
        if error.problem.retryable:
            raise
        job.report.log(f"{error.problem.cause}; the requirements are resolved again")
    forget(wishes, job.workshop.locks, await job.workshop.resolver_environ())
    return await _bring(job, await _resolve(job, wishes))


async def _wishes(job: Job) -> Wishes:
    return Wishes(job.plan.request, job.plan.lock, buildable=await _target(job) is not None, libc=_libc(job))


def _libc(job: Job) -> Libc:
    return job.foundation.libc if job.foundation else UNKNOWN_BASE


async def _target(job: Job) -> Target | None:
    """What sources are built for; None if this machine cannot build for the platform and python asked for."""
    request = job.plan.request
    if request.platform != here():
        return None
    found = await in_thread(lambda _: job.workshop.interpreters.find(request.python))
    return Target(request.platform, found) if found else None


async def _resolve(job: Job, wishes: Wishes) -> Lock:
    job.report.step("resolve")
    environ = await job.workshop.resolver_environ()
    return await resolve(wishes, job.workshop.locks, environ, job.report.log)


async def _bring(job: Job, lock: Lock) -> tuple[Lock, list[LayerPlan]]:
    whole = await _with_built(job, lock)
    return whole, await _fetch(job, whole)


async def _with_built(job: Job, lock: Lock) -> Lock:
    """The lock with a wheel in place of each source; they are built one after the other, as each takes all cores."""
    target = await _target(job)
    if target is None:
        return lock  # without sources, as `resolve` promises
    built = []
    for source in lock.sources:
        async with job.workshop.making(f"source {source.sha256}"):
            environ = await job.workshop.resolver_environ()
            wheel = await job.workshop.sources.wheel(source, target, environ, job.report.log)
        if job.foundation and job.foundation.tree.software.libc:
            check_built(wheel, _libc(job), libc_here())
        built.append(wheel)
    return lock.with_built(built)


async def _fetch(job: Job, lock: Lock) -> list[LayerPlan]:
    """The layers, and every wheel here that a layer still to be made needs."""
    job.report.step("fetch")
    absent = {wheel.sha256 for wheel in lock.wheels if job.workshop.wheels.size(wheel) is None}
    unsized = [wheel for wheel in lock.wheels if _size(job, wheel) is None]
    if unsized:
        job.report.log(f"fetching {', '.join(wheel.filename for wheel in unsized)}")
        await job.workshop.wheels.fetch(unsized, await job.workshop.resolver_environ(), lambda _wheel, _done: None)
    sizes = {wheel.sha256: _size(job, wheel) or 0 for wheel in lock.wheels}
    wheels, bytecode, layers = _layers(job, lock, sizes)
    job.board.expect(layers)
    await each(_fetch_layer(job, layer, sizes) for layer in wheels)
    await each(_fetch_layer(job, layer, sizes) for layer in bytecode)
    for layer in wheels:
        _tell_fetched(job, layer, sizes, absent)
    await in_thread(lambda _: job.workshop.index.remember_wheel_sizes(sizes))
    return layers


def _layers(job: Job, lock: Lock, sizes: Mapping[str, int]) -> tuple[list[LayerPlan], list[LayerPlan], list[LayerPlan]]:
    """Those of wheels, those of bytecode, and all."""
    foundation = job.foundation
    base = len(foundation.base.layers) if foundation else 0
    wheels = wheel_layers(lock.wheels, sizes, job.plan.request.python, base=base)
    bytecode = _bytecode(job, wheels)
    files = file_layers(job.plan, foundation.interpreter if foundation else "")
    if foundation is not None:
        workdir = job.plan.workdir
        wheels, bytecode, files = (
            [over(layer, foundation.under(layer.kind, workdir)) for layer in rows] for rows in (wheels, bytecode, files)
        )
    return wheels, bytecode, [*wheels, *bytecode, *files]


def _bytecode(job: Job, wheels: list[LayerPlan]) -> list[LayerPlan]:
    python, compiler = job.plan.request.python, job.plan.compiler
    if compiler is not None:
        return bytecode_layers(wheels, python, compiler.magic)
    if wheels:
        job.report.log(
            f"packages are not compiled ahead: there is no python {python} here to do it, or COMPILE_BYTECODE is 0"
        )
    return []


def _size(job: Job, wheel: PinnedWheel) -> int | None:
    """Bytes of a wheel: as the index says, as it lies here, or as it was once."""
    return wheel.size or job.workshop.wheels.size(wheel) or job.workshop.index.wheel_size(wheel.sha256)


async def _fetch_layer(job: Job, layer: LayerPlan, sizes: Mapping[str, int]) -> None:
    if job.workshop.index.layer(layer.key) is not None:
        return
    total = sum(sizes[wheel.sha256] for wheel in layer.wheels)
    here: dict[str, int] = {}

    def told(wheel: PinnedWheel, done: int) -> None:
        here[wheel.sha256] = done
        job.board.advance(layer, "fetching", sum(here.values()), total)

    await job.workshop.wheels.fetch(layer.wheels, await job.workshop.resolver_environ(), told)


def _tell_fetched(job: Job, layer: LayerPlan, sizes: Mapping[str, int], absent: set[str]) -> None:
    """absent: sha256 of the wheels that were not here before. Those that still are not were not needed."""
    came = [wheel for wheel in layer.wheels if wheel.sha256 in absent and job.workshop.wheels.size(wheel) is not None]
    if came:
        job.board.fetched(layer, sum(sizes[wheel.sha256] for wheel in came))
