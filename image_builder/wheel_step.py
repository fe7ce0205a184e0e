"""From requirements to the layers that their wheels will be."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from image_builder.interpreters import here, libc_here
from image_builder.job import Job
from image_builder.layer_plan import LayerPlan, bytecode_layers, file_layers, over, wheel_layers
from image_builder.layers.index import Layer
from image_builder.local_index import Hashed
from image_builder.lock import UNKNOWN_BASE, Lock, PinnedWheel
from image_builder.oci.software import Libc
from image_builder.resolve import Wishes, check_built, forget, resolve
from image_builder.source_wheels import Target
from image_builder.work import in_thread


@dataclass(frozen=True, slots=True)
class Planned:
    """The layers on top of the base, from the lowest up. sizes: sha256 -> bytes of each wheel. absent: sha256 of the
    wheels that were not here when the build began. shared: layers of other machines, by content key.
    """

    lock: Lock
    layers: tuple[LayerPlan, ...]
    sizes: Mapping[str, int] = field(default_factory=dict)
    absent: frozenset[str] = frozenset()
    shared: Mapping[str, Layer] = field(default_factory=dict)

    def expected(self, layer: LayerPlan) -> int:
        """About how many bytes go into a layer."""
        return sum(self.sizes[wheel.sha256] for wheel in layer.wheels) + sum(file.size for file in layer.files)


async def planned_layers(job: Job) -> Planned:
    """Resolve; wheels are fetched only where nothing else tells how large they are.

    Raises:
        BuildError: as `resolve`, `SourceWheels.wheel` and `WheelStore.fetch`.
    """
    lock = await _with_built(job, await _resolve(job))
    job.report.step("fetch")
    absent = frozenset(wheel.sha256 for wheel in lock.wheels if job.workshop.wheels.size(wheel) is None)
    unsized = [wheel for wheel in lock.wheels if _size(job, wheel) is None]
    if unsized:
        job.report.log(f"fetching {', '.join(wheel.filename for wheel in unsized)}")
        await job.workshop.wheels.fetch(unsized, await job.workshop.resolver_environ(), lambda _wheel, _done: None)
    sizes = {wheel.sha256: _size(job, wheel) or 0 for wheel in lock.wheels}
    await in_thread(lambda _: job.workshop.index.remember_wheel_sizes(sizes))
    layers = _layers(job, lock, sizes)
    job.board.expect(layers)
    shared = await job.shared.find(layers) if job.shared else {}
    return Planned(lock, tuple(layers), sizes, absent, shared)


async def forget_lock(job: Job) -> None:
    """What the lock names is gone from the index: the next build of these requirements resolves them anew."""
    forget(await _wishes(job), job.workshop.locks, await job.workshop.resolver_environ())


async def _resolve(job: Job) -> Lock:
    job.report.step("resolve")
    environ = await job.workshop.resolver_environ()
    return await resolve(await _wishes(job), job.workshop.locks, environ, job.report.log)


async def _wishes(job: Job) -> Wishes:
    target = await _target(job)
    hashed = Hashed(job.workshop.hashes, job.workshop.folder / "indexes", job.workshop.leases.use)
    wishes = Wishes(job.plan.request, job.plan.lock, buildable=target is not None, libc=_libc(job), hashed=hashed)
    return replace(wishes, interpreter=target.interpreter.path) if target else wishes


def _libc(job: Job) -> Libc:
    return job.foundation.libc if job.foundation else UNKNOWN_BASE


async def _target(job: Job) -> Target | None:
    """What sources are built for; None if this machine cannot build for the platform and python asked for."""
    request = job.plan.request
    if request.platform != here():
        return None
    found = await in_thread(lambda _: job.workshop.interpreters.find(request.python))
    return Target(request.platform, found) if found else None


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


def _layers(job: Job, lock: Lock, sizes: Mapping[str, int]) -> list[LayerPlan]:
    foundation = job.foundation
    base = len(foundation.base.layers) if foundation else 0
    compiled = 2 if job.plan.compiler else 1
    wheels = wheel_layers(lock.wheels, sizes, job.plan.request.python, base=base, each=compiled)
    layers = [*wheels, *_bytecode(job, wheels), *file_layers(job.plan, foundation.interpreter if foundation else "")]
    if foundation is None:
        return layers
    return [over(layer, foundation.under(layer.kind, job.plan.workdir)) for layer in layers]


def _bytecode(job: Job, wheels: list[LayerPlan]) -> list[LayerPlan]:
    python, compiler = job.plan.request.python, job.plan.compiler
    if compiler is not None:
        return bytecode_layers(wheels, python, compiler.magic)
    if job.plan.compiles:
        job.report.log(f"packages are not compiled ahead: there is no python {python} here to do it")
    return []


def _size(job: Job, wheel: PinnedWheel) -> int | None:
    """Bytes of a wheel: as the index says, as it lies here, or as it was once."""
    return wheel.size or job.workshop.wheels.size(wheel) or job.workshop.index.wheel_size(wheel.sha256)
