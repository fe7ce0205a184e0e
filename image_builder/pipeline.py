"""One build, from plan to image: base, resolve, fetch, layers, assemble, push."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, Protocol
from weakref import WeakValueDictionary

import httpx

from image_builder.assemble import assemble
from image_builder.base_step import Groundwork, base_plans
from image_builder.bytecode import compile_wheels
from image_builder.contents import describe
from image_builder.contents_store import ContentsStore
from image_builder.contract import SCRATCH, ImageReference, LayerProgress, LayerState
from image_builder.engines.choose import choose
from image_builder.engines.engine import Engine
from image_builder.engines.packaged import Packager
from image_builder.engines.whole import assemble_whole, context_of, dockerfile_plans
from image_builder.errors import FetchFailed
from image_builder.fetch import WheelStore
from image_builder.file_hashes import FileHashes
from image_builder.foundation import Foundation
from image_builder.index_credentials import forget_open_locks
from image_builder.interpreters import Interpreters, here
from image_builder.layer_plan import LayerPlan, bytecode_layers, file_layers, over, wheel_layers
from image_builder.layers.index import Layer, LayerIndex
from image_builder.layers.make import Materials, make_layer
from image_builder.layers.tar import Entry
from image_builder.leases import Leases
from image_builder.lock import Lock, PinnedWheel
from image_builder.network import registry_client
from image_builder.oci.base import BaseImage, find_base
from image_builder.oci.credentials import DockerConfig
from image_builder.oci.google import GoogleCredentials
from image_builder.oci.layout import Layout
from image_builder.oci.pushed import Pushed
from image_builder.oci.reference import parse
from image_builder.oci.registries import Registries
from image_builder.pip_settings import PipSettings
from image_builder.plan import BuildPlan
from image_builder.progress import LayerBoard
from image_builder.publish import Publisher
from image_builder.resolve import Wishes, forget, resolve
from image_builder.scratch import Scratch
from image_builder.source_wheels import SourceWheels, Target
from image_builder.work import StopFlag, each, in_thread

Step = Literal["base", "resolve", "fetch", "layers", "assemble", "push"]


class Reporter(Protocol):
    """Hears how a build goes. Calls come from any thread and must return at once."""

    def step(self, name: Step) -> None: ...

    def layer(self, progress: LayerProgress) -> None:
        """The newest state of one layer; `name` is its identity within the build."""
        ...

    def base(self, reference: str) -> None:
        """The base image that was found, by its digest."""
        ...

    def log(self, message: str) -> None:
        """One line for people."""
        ...


@dataclass(frozen=True)
class Network:
    """How registries are reached. insecure: those that are spoken to without TLS, besides those on loopback."""

    insecure: Sequence[str] = ()
    connect: Callable[[Mapping[str, str]], httpx.AsyncClient] = registry_client


class Workshop:
    """The builder's folders and caches, shared by all builds of a process. Use it in one event loop.

    folder: STATE_DIR/builder. environ: where the host's index, proxy, CA and docker settings are looked up.
    """

    def __init__(
        self, folder: Path, environ: Mapping[str, str], network: Network, engines: Callable[[Layout], Sequence[Engine]]
    ) -> None:
        self.folder = folder
        self.leases = Leases(folder)
        self.layout = Layout(folder / "images", self.leases.use)
        self.contents = ContentsStore(self.layout)
        self.index = LayerIndex(folder / "layers", self.layout)
        self.hashes = FileHashes(folder / "hashes.sqlite")
        self.wheels = WheelStore(folder / "wheels", self.hashes, self.leases.use)
        self.locks = folder / "locks"
        self.scratch = Scratch(folder / "scratch")
        self.interpreters = Interpreters(environ)
        self.sources = SourceWheels(folder / "sources", self.wheels, self.scratch)
        self.slots = asyncio.Semaphore(max(2, os.cpu_count() or 2))
        self.pushed = Pushed(folder / "pushed")
        self.engines = tuple(engines(self.layout))
        self._network = network
        self._credentials = GoogleCredentials(DockerConfig(environ), environ)
        self._environ = environ
        self._pip = PipSettings(environ)
        self._making: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    @classmethod
    def open(
        cls,
        state_dir: Path,
        environ: Mapping[str, str],
        network: Network | None = None,
        engines: Callable[[Layout], Sequence[Engine]] = lambda _: (),
    ) -> Workshop:
        """Make STATE_DIR/builder ready; leftovers of dead builders are swept. Blocking.

        engines: those that may be used, the first that is there first; they put their layers into the layout.
        """
        folder = state_dir / "builder"
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o700)  # projects' files and settings are no business of other users
        workshop = cls(folder, environ, network or Network(), engines)
        workshop.layout.prepare()
        workshop.index.prepare()
        workshop.wheels.prepare()
        workshop.contents.prepare()
        workshop.locks.mkdir(exist_ok=True)
        forget_open_locks(workshop.locks)
        workshop.scratch.prepare()
        return workshop

    async def resolver_environ(self) -> dict[str, str]:
        """The environment for uv and downloads."""
        return await self._pip.environment()

    async def registries(self) -> Registries:
        """For one build; use it as a context manager."""
        environ = await self.resolver_environ()
        return Registries(
            lambda: self._network.connect(environ),
            self._credentials,
            insecure=self._network.insecure,
        )

    def making(self, key: str) -> asyncio.Lock:
        """Held while a layer or wheel is made, so that two builds do not make the same one."""
        return self._making.setdefault(key, asyncio.Lock())

    def close(self) -> None:
        self.hashes.close()


@dataclass(frozen=True)
class _Job:
    """One build under way."""

    plan: BuildPlan
    workshop: Workshop
    report: Reporter
    board: LayerBoard
    registries: Registries
    foundation: Foundation | None = None

    @property
    def groundwork(self) -> Groundwork:
        return Groundwork(self.workshop.layout, self.workshop.folder / "bases", self.registries, self.board)


async def build(plan: BuildPlan, workshop: Workshop, report: Reporter) -> ImageReference:
    """Make the image of a plan; nothing is done again that is there already.

    May be cancelled at any await: when CancelledError comes out, no thread, process or half-written blob is left.

    Raises:
        BuildError: with the words for the person who can mend it.
    """
    with workshop.leases.taken():
        async with await workshop.registries() as registries:
            return await _build(_Job(plan, workshop, report, LayerBoard(report.layer), registries))


async def _build(job: _Job) -> ImageReference:
    if job.plan.whole:
        return await _build_whole(job)
    job = await _based(job)
    lock, layers = await _resolve_and_fetch(job)
    job.report.step("layers")
    made = await each(_layer(job, layer) for layer in layers)
    job.report.step("assemble")
    image = await in_thread(lambda _: _assemble(job, lock, layers, made))
    return await _delivered(job, image, layers)


async def _based(job: _Job) -> _Job:
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


async def _packaged(job: _Job, base: BaseImage) -> BaseImage:
    """The base with the system packages on it, which an engine makes once."""
    job.board.expect(base_plans(base))
    packager = Packager(job.workshop.engines, job.workshop.index, job.workshop.making, job.report.log)
    request, packages = job.plan.request, job.plan.system_packages
    return await packager.packaged(base, lambda: job.groundwork.complete(base), packages, request.engine)


async def _build_whole(job: _Job) -> ImageReference:
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


async def _delivered(job: _Job, image: ImageReference, layers: Sequence[LayerPlan]) -> ImageReference:
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


async def _resolve_and_fetch(job: _Job) -> tuple[Lock, list[LayerPlan]]:
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


async def _wishes(job: _Job) -> Wishes:
    return Wishes(job.plan.request, job.plan.lock, buildable=await _target(job) is not None)


async def _target(job: _Job) -> Target | None:
    """What sources are built for; None if this machine cannot build for the platform and python asked for."""
    request = job.plan.request
    if request.platform != here():
        return None
    found = await in_thread(lambda _: job.workshop.interpreters.find(request.python))
    return Target(request.platform, found) if found else None


async def _resolve(job: _Job, wishes: Wishes) -> Lock:
    job.report.step("resolve")
    environ = await job.workshop.resolver_environ()
    return await resolve(wishes, job.workshop.locks, environ, job.report.log)


async def _bring(job: _Job, lock: Lock) -> tuple[Lock, list[LayerPlan]]:
    whole = await _with_built(job, lock)
    return whole, await _fetch(job, whole)


async def _with_built(job: _Job, lock: Lock) -> Lock:
    """The lock with a wheel in place of each source; they are built one after the other, as each takes all cores."""
    target = await _target(job)
    if target is None:
        return lock  # without sources, as `resolve` promises
    built = []
    for source in lock.sources:
        async with job.workshop.making(f"source {source.sha256}"):
            environ = await job.workshop.resolver_environ()
            built.append(await job.workshop.sources.wheel(source, target, environ, job.report.log))
    return lock.with_built(built)


async def _fetch(job: _Job, lock: Lock) -> list[LayerPlan]:
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


def _layers(
    job: _Job, lock: Lock, sizes: Mapping[str, int]
) -> tuple[list[LayerPlan], list[LayerPlan], list[LayerPlan]]:
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


def _bytecode(job: _Job, wheels: list[LayerPlan]) -> list[LayerPlan]:
    python, compiler = job.plan.request.python, job.plan.compiler
    if compiler is not None:
        return bytecode_layers(wheels, python, compiler.magic)
    if wheels:
        job.report.log(
            f"packages are not compiled ahead: there is no python {python} here to do it, or COMPILE_BYTECODE is 0"
        )
    return []


def _size(job: _Job, wheel: PinnedWheel) -> int | None:
    """Bytes of a wheel: as the index says, as it lies here, or as it was once."""
    return wheel.size or job.workshop.wheels.size(wheel) or job.workshop.index.wheel_size(wheel.sha256)


async def _fetch_layer(job: _Job, layer: LayerPlan, sizes: Mapping[str, int]) -> None:
    if job.workshop.index.layer(layer.key) is not None:
        return
    total = sum(sizes[wheel.sha256] for wheel in layer.wheels)
    here: dict[str, int] = {}

    def told(wheel: PinnedWheel, done: int) -> None:
        here[wheel.sha256] = done
        job.board.advance(layer, "fetching", sum(here.values()), total)

    await job.workshop.wheels.fetch(layer.wheels, await job.workshop.resolver_environ(), told)


def _assemble(job: _Job, lock: Lock, layers: Sequence[LayerPlan], made: Sequence[Layer]) -> ImageReference:
    """The image, and a note of what is in it."""
    base = job.foundation.base if job.foundation else None
    image = assemble(job.plan, lock, list(zip(layers, made, strict=True)), job.workshop.layout, base)
    licenses = job.workshop.contents.licenses(lock.wheels, job.workshop.wheels.path)
    job.workshop.contents.keep(image.digest, describe(lock, layers, made, licenses))
    return image


def _tell_fetched(job: _Job, layer: LayerPlan, sizes: Mapping[str, int], absent: set[str]) -> None:
    """absent: sha256 of the wheels that were not here before. Those that still are not were not needed."""
    came = [wheel for wheel in layer.wheels if wheel.sha256 in absent and job.workshop.wheels.size(wheel) is not None]
    if came:
        job.board.fetched(layer, sum(sizes[wheel.sha256] for wheel in came))


async def _layer(job: _Job, layer: LayerPlan) -> Layer:
    async with job.workshop.making(layer.key):
        known = job.workshop.index.layer(layer.key)
        if known is not None:
            job.board.settle(layer, known, "reused")
            return known
        async with job.workshop.slots:
            made = await _made(job, layer)
        job.board.settle(layer, made, "built")
        return made


async def _made(job: _Job, layer: LayerPlan) -> Layer:
    compiler = job.plan.compiler
    if layer.kind != "bytecode" or compiler is None:
        return await in_thread(lambda flag: _make(job, layer, (), flag))
    job.board.advance(layer, "building", 0, 0)
    paths = _paths(job, layer)
    async with job.workshop.scratch.new() as folder:
        compiled = await compile_wheels(layer.wheels, paths, compiler, folder, job.report.log)
        return await in_thread(lambda flag: _make(job, layer, compiled, flag))


def _paths(job: _Job, layer: LayerPlan) -> dict[str, Path]:
    return {wheel.sha256: job.workshop.wheels.path(wheel) for wheel in layer.wheels}


def _make(job: _Job, layer: LayerPlan, compiled: Sequence[Entry], flag: StopFlag) -> Layer:
    def told(done: int, total: int) -> None:
        job.board.advance(layer, "building", done, total)

    told(0, 0)
    materials = Materials(job.plan, _paths(job, layer), job.workshop.layout, job.report.log, compiled)
    made = make_layer(layer, materials, told, flag)
    job.workshop.index.remember(layer.key, made)
    return made
