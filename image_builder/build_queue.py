"""Builds, a few at a time: one for each content key however many ask, and none lost when the process dies."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any
from weakref import WeakValueDictionary

from image_builder.build_records import BuildRecord, BuildRecords
from image_builder.build_report import BuildReport
from image_builder.build_store import BuildStore, disk_error
from image_builder.build_summary import summarise
from image_builder.clock import Clock
from image_builder.contract import (
    BuildEvent,
    BuildRequest,
    BuildState,
    BuildStatus,
    CacheThing,
    ImageReference,
    Problem,
)
from image_builder.errors import BuildError, BuildNotFound, QueueFull, SourceChanged, Stopping
from image_builder.event_log import Note, Position
from image_builder.job import Reporter
from image_builder.plan import BuildPlan
from image_builder.request_log import about
from image_builder.work import StopFlag, in_thread

_log = logging.getLogger(__name__)

_TRIES = 5
_PLANNERS = 2  # requests whose files are read at a time; others wait, so that running builds keep their threads
_INTERNAL = Problem(
    code="internal",
    cause="the builder met an error that it does not know",
    fix="Look into the builder's log, then ask for the build again.",
)


@dataclass(frozen=True)
class Maker:
    """What the queue orders; it knows nothing of images itself.

    plan: blocking; raises BadBuildRequest or SourceChanged.
    build: raises BuildError; may be cancelled, and when CancelledError comes out, nothing of it runs any more.
    has_image: whether all of an image is in the builder's store; blocking.
    """

    plan: Callable[[BuildRequest, StopFlag], BuildPlan]
    build: Callable[[BuildPlan, Reporter], Awaitable[ImageReference]]
    has_image: Callable[[ImageReference], bool]


class BuildQueue:
    """Everything but the work itself happens on the event loop.

    The lock of an id orders those who ask for and leave a build. A build is told to be done only after that is on the
    disk, so that a crash never takes it back.
    """

    def __init__(  # noqa: PLR0913 - put together in `__main__.py`
        self,
        store: BuildStore,
        maker: Maker,
        clock: Clock,
        *,
        workers: int = 2,
        size: int = 256,
        told: Callable[[BuildStatus], None] | None = None,
    ) -> None:
        """workers: builds that run at a time. size: builds that may wait. told: hears of each that has ended."""
        self._told = told
        self._records = BuildRecords(store, clock)
        self._maker, self._clock, self._size = maker, clock, size
        self._slots = asyncio.Semaphore(workers)
        self._planning = asyncio.Semaphore(_PLANNERS)
        self._admitting = asyncio.Lock()
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._closing = False
        self.ended = asyncio.Event()
        """Set whenever a build has ended; whoever waits for it clears it."""

    async def start(self) -> None:
        """Find the builds of earlier processes; those that were not done go on."""
        for record in await self._records.open():
            record.change(state=BuildState.QUEUED, step="queued", layers=())
            record.log.skip_unkept()
            self._records.tell(record, Note("log", "continued after a restart"), Note("step", "queued"))
            self._launch(record)

    async def close(self) -> None:
        """Stop what runs and wait until it is dead. The builds go on at the next start."""
        self.end_streams()
        tasks = [record.task for record in self._records.active.values() if record.task]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        self._records.close()

    def end_streams(self) -> None:
        """Let those who listen to events go, so that their connections can close; no build is taken any more."""
        self._closing = True
        for record in self._records.active.values():
            record.log.wake()

    async def submit(self, request: BuildRequest) -> BuildStatus:
        """Join, reuse or begin the build of these inputs; the owner leaves any other that it waits for.

        Raises:
            BadBuildRequest: what is asked for cannot be built.
            SourceChanged: a file changed while it was read.
            QueueFull: too many builds wait.
            Stopping: close was called.
        """
        plan = await self._plan(request)
        status = await self._join_or_begin(plan.id, request)
        for other in [record for record in self._records.active.values() if record.id != plan.id]:
            if request.owner in other.status.owners:
                await self.release(other.id, request.owner)
        return status

    async def _join_or_begin(self, build_id: str, request: BuildRequest) -> BuildStatus:
        async with self._lock(build_id):
            record = await self._records.load(build_id)
            if record and (joined := await self._join(record, request.owner)):
                return joined
            async with self._admitting:
                return await self._begin(build_id, request, record)

    async def status(self, build_id: str) -> BuildStatus:
        """Raises BuildNotFound."""
        if status := await self._records.status(build_id):
            return status
        raise _unknown(build_id)

    async def newest(self, state: BuildState | None, limit: int) -> list[BuildStatus]:
        return await self._records.newest(state, limit)

    async def prune(self, keep: int, has_image: Callable[[str], bool], *, dry_run: bool) -> list[CacheThing]:
        """Forget the builds that are done, but the `keep` newest and those whose image (a digest) is there.

        Raises:
            BuildError: the disk refuses; what went before is gone.
        """
        gone = []
        for build_id in self._records.done_ids()[keep:]:
            async with self._lock(build_id):
                if record := await self._records.prune(build_id, has_image, dry_run=dry_run):
                    gone.append(record)
        return gone

    def counts(self) -> Mapping[str, int]:
        """How many of all that are remembered are in which state."""
        return self._records.counts()

    def count(self, state: BuildState) -> int:
        """How many of the active builds are in a state."""
        return self._records.count(state)

    async def release(self, build_id: str, owner: str | None) -> BuildStatus:
        """Leave a build; None: on behalf of all. When the last owner has left, what ran is dead when this returns.

        Raises:
            BuildNotFound: there is no such build.
        """
        async with self._lock(build_id):
            record = await self._known(build_id)
            left = tuple(name for name in record.status.owners if owner not in (None, name))
            if not left and not record.done:
                await self._cancel(record)
            return await self._leave(record, owner, left)

    async def events(self, build_id: str, after: int, quiet: float = 15) -> AsyncGenerator[BuildEvent | None, None]:
        """History from number `after` + 1 on, then what happens, until the build is done; None after `quiet` seconds
        without an event. Raises BuildNotFound.
        """
        async with self._lock(build_id):
            record = await self._known(build_id)
        position = Position(after)
        while True:
            news, over = record.log.news, record.done or self._closing
            batch = await record.log.read(position)
            for event in batch:
                yield event
            if not batch:
                if over:
                    return
                try:
                    await asyncio.wait_for(news.wait(), quiet)
                except TimeoutError:
                    yield None

    async def _join(self, record: BuildRecord, owner: str) -> BuildStatus | None:
        """The build as it is, with one more owner; None if it must be run again."""
        async with record.writing:
            if record.done and not await self._has_image(record.status):
                return None
            if owner not in record.status.owners:
                await self._change_owners(record, (*record.status.owners, owner), f"{owner} joins this build")
            return record.view()

    async def _leave(self, record: BuildRecord, owner: str | None, left: tuple[str, ...]) -> BuildStatus:
        async with record.writing:
            if left != record.status.owners:
                await self._change_owners(record, left, f"{owner} leaves this build")
            return record.view()

    async def _change_owners(self, record: BuildRecord, owners: tuple[str, ...], message: str) -> None:
        await self._records.save(record, owners=owners)
        record.change(owners=owners)
        if not record.done:
            self._records.tell(record, Note("log", message))

    async def _has_image(self, status: BuildStatus) -> bool:
        if status.state is not BuildState.SUCCEEDED or status.image is None:
            return False
        return await asyncio.to_thread(self._maker.has_image, status.image)

    async def _begin(self, build_id: str, request: BuildRequest, before: BuildRecord | None) -> BuildStatus:
        self._refuse_if_full()
        status = BuildStatus(
            id=build_id,
            state=BuildState.QUEUED,
            owners=_with(before.status.owners if before else (), request.owner),
            request=request,
            created=self._clock.now(),
        )
        record = BuildRecord(status, before.log if before else await self._records.open_log(build_id))
        await self._records.save(record)
        self._records.tell(record, Note("log", f"asked for by {request.owner}"), Note("step", "queued"))
        self._launch(record)
        return record.view()

    def _refuse_if_full(self) -> None:
        if self._closing:
            raise Stopping("the builder is stopping", "Ask again in a moment.")
        waiting = self.count(BuildState.QUEUED)
        if waiting >= self._size:
            raise QueueFull(f"{waiting} builds wait already", "Ask again later, or raise BUILD_QUEUE_SIZE.")

    def _launch(self, record: BuildRecord) -> None:
        self._records.remember(record.status)
        self._records.active[record.id] = record
        cause = about(record.id, record.status.request.owner)
        record.task = asyncio.create_task(self._attend(record), name=f"build {record.id}", context=cause)

    async def _attend(self, record: BuildRecord) -> None:
        """Run until there is an image or a reason why not. Trouble that may pass is waited out, a few times."""
        for attempt in range(1, _TRIES + 1):
            async with self._slots:
                outcome = await self._outcome(record)
            if isinstance(outcome, ImageReference):
                return await self._finish(record, BuildState.SUCCEEDED, f"succeeded: {outcome.digest}", image=outcome)
            if attempt == _TRIES or not outcome.retryable or outcome.code == SourceChanged.code:
                return await self._finish(record, BuildState.FAILED, f"failed: {outcome}", problem=outcome)
            pause = backoff(attempt, random.random())  # noqa: S311 - jitter, no secret
            again = f"Trying again in {pause:.1f} s ({attempt + 1} of {_TRIES})"
            self._records.tell(record, Note("log", f"{outcome.cause.rstrip('.')}. {again}"))
            await self._clock.sleep(pause)
        return None

    async def _outcome(self, record: BuildRecord) -> ImageReference | Problem:
        try:
            return await self._run(record)
        except BuildError as error:
            return error.problem
        except OSError as error:
            _log.exception("build %s", record.id)
            return disk_error(error).problem
        except Exception:  # noqa: BLE001 - a fault of ours ends this build, not the service; the log has it whole
            _log.exception("build %s", record.id)
            return _INTERNAL

    async def _run(self, record: BuildRecord) -> ImageReference:
        record.layers.clear()
        record.steps.clear()
        record.change(state=BuildState.RUNNING)
        self._records.remember(record.status)
        plan = await self._plan(record.status.request)
        if plan.id != record.id:
            where = plan.request.source
            raise SourceChanged(f"files of {where} changed after the build was asked for", "Ask for the build again.")
        report = BuildReport(self._clock, lambda notes: self._hear(record, notes))
        try:
            # A try that goes on, here or after a restart, stands on the base that the first one found.
            return await self._maker.build(replace(plan, base=record.status.base), report)
        finally:
            report.close()
            if record.keeping:
                await record.keeping

    def _hear(self, record: BuildRecord, notes: list[Note]) -> None:
        for note in notes:
            if note.layer:
                record.layers[note.layer.name] = note.layer
            elif note.base:
                self._found_base(record, note.base)
            elif note.kind == "step":
                record.change(step=note.message)
                record.steps.append((note.message, self._clock.now()))
        self._records.tell(record, *notes)

    def _found_base(self, record: BuildRecord, reference: str) -> None:
        if record.status.base != reference:
            record.change(base=reference)
            record.keeping = asyncio.create_task(self._keep(record))

    async def _keep(self, record: BuildRecord) -> None:
        async with record.writing:
            try:
                await self._records.save(record)
            except BuildError as error:  # a build that goes on after a restart then looks the base up again
                _log.warning("the base of build %s could not be kept: %s", record.id, error)

    async def _finish(self, record: BuildRecord, state: BuildState, message: str, **changes: Any) -> None:
        now, layers = self._clock.now(), record.view().layers
        summary = summarise(layers, record.steps, now)
        changes |= {"state": state, "step": "done", "finished": now, "layers": layers, "summary": summary}
        async with record.writing:
            try:
                await self._records.save(record, **changes)
                self._records.active.pop(record.id, None)
            except BuildError as error:  # it is known until the process ends, and runs again after a restart
                _log.warning("build %s is %s; that could not be kept: %s", record.id, state, error)
            record.change(**changes)
            self._records.remember(record.status)
            self._records.tell(record, Note("done", message, layers=layers, summary=summary))
        self.ended.set()
        if self._told:
            self._told(record.status)
        _log.info("build %s %s", record.id, message)

    async def _cancel(self, record: BuildRecord) -> None:
        if record.task:
            record.task.cancel()
            await asyncio.wait([record.task])
        if not record.done:
            await self._finish(record, BuildState.CANCELLED, "cancelled: nobody waits for it any more", owners=())

    async def _plan(self, request: BuildRequest) -> BuildPlan:
        async with self._planning:
            return await in_thread(lambda flag: self._maker.plan(request, flag))

    async def _known(self, build_id: str) -> BuildRecord:
        if record := await self._records.load(build_id):
            return record
        raise _unknown(build_id)

    def _lock(self, build_id: str) -> asyncio.Lock:
        return self._locks.setdefault(build_id, asyncio.Lock())


def backoff(attempt: int, dice: float) -> float:
    """Seconds to wait after the n-th try: about 1, 2, 4, 8 … 30, spread by `dice` (0 to 1) so that builds part."""
    return float(min(2 ** (attempt - 1), 30)) * (0.75 + dice / 2)


def _with(owners: tuple[str, ...], owner: str) -> tuple[str, ...]:
    return owners if owner in owners else (*owners, owner)


def _unknown(build_id: str) -> BuildNotFound:
    return BuildNotFound(f"there is no build {build_id[:64]!r}", "See GET /builds for those there are.")
