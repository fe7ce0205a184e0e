"""Every build the builder knows: the active ones in memory, all of them on the disk."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

from image_builder.build_store import BuildStore, disk_error
from image_builder.clock import Clock
from image_builder.contract import BuildState, BuildStatus, CacheThing, LayerProgress
from image_builder.event_log import EventLog, Note

_T = TypeVar("_T")


@dataclass
class BuildRecord:
    """One build in memory. `writing` is held while a change is brought to the disk, so that none overtakes another.

    steps: of the present run: name, and Unix time when it began. keeping: brings the base that was found to the disk.
    """

    status: BuildStatus
    log: EventLog
    layers: dict[str, LayerProgress] = field(default_factory=dict)
    steps: list[tuple[str, float]] = field(default_factory=list)
    task: asyncio.Task[None] | None = None
    keeping: asyncio.Task[None] | None = None
    writing: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def id(self) -> str:
        return self.status.id

    @property
    def done(self) -> bool:
        return self.status.state.done

    def view(self) -> BuildStatus:
        return self.status.model_copy(update={"layers": tuple(self.layers.values())}) if self.layers else self.status

    def change(self, **changes: Any) -> None:
        self.status = self.status.model_copy(update=changes)


class BuildRecords:
    """Used on the event loop; the disk is reached through one thread of its own, in order."""

    def __init__(self, store: BuildStore, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._disk = ThreadPoolExecutor(1, thread_name_prefix="build-store")
        self._index: dict[str, tuple[float, BuildState]] = {}
        self.active: dict[str, BuildRecord] = {}

    async def open(self) -> list[BuildRecord]:
        """Read what there is. Returns those that were not done, oldest first."""
        unfinished = []
        for status in await self._io(lambda: list(self._store.all())):
            self.remember(status)
            if not status.state.done:
                unfinished.append(status)
        unfinished.sort(key=lambda status: status.created)
        return [BuildRecord(status, await self.open_log(status.id)) for status in unfinished]

    def close(self) -> None:
        self._disk.shutdown()

    async def load(self, build_id: str) -> BuildRecord | None:
        """From memory, else from the disk."""
        if record := self.active.get(build_id):
            return record
        status = await self._io(lambda: self._store.load(build_id))
        if status is None:
            return None
        record = BuildRecord(status, await self.open_log(build_id))
        if record.done and not record.log.ends_with_done:  # killed between the record and its last event
            self.tell(record, Note("done", str(status.state)))
        return record

    async def status(self, build_id: str) -> BuildStatus | None:
        if record := self.active.get(build_id):
            return record.view()
        return await self._io(lambda: self._store.load(build_id))

    async def newest(self, state: BuildState | None, limit: int) -> list[BuildStatus]:
        rows = [(created, key) for key, (created, now) in self._index.items() if state in (None, now)]
        found = [await self.status(key) for _, key in sorted(rows, reverse=True)[:limit]]
        return [status for status in found if status]

    def done_ids(self) -> list[str]:
        """Builds that are done, newest first."""
        rows = [(created, key) for key, (created, _) in self._index.items() if key not in self.active]
        return [key for _, key in sorted(rows, reverse=True)]

    async def prune(self, build_id: str, has_image: Callable[[str], bool], *, dry_run: bool) -> CacheThing | None:
        """Remove the record of one build, unless it runs or has an image. What went, or would go."""
        status = await self.status(build_id)
        if build_id in self.active or status is None:
            return None
        kept = status.image is not None and await self._io(partial(has_image, status.image.digest))
        if kept:
            return None
        size = await self._io(lambda: self._store.size(build_id))
        if not dry_run:
            await self._io(lambda: self._store.remove(build_id))
            self._index.pop(build_id, None)
        used = status.finished or status.created
        return CacheThing(kind="record", name=f"builds/{build_id}", size=size, used=used, why="old")

    def counts(self) -> Counter[str]:
        return Counter(str(state) for _, state in self._index.values())

    def count(self, state: BuildState) -> int:
        return sum(record.status.state is state for record in self.active.values())

    async def save(self, record: BuildRecord, **changes: Any) -> None:
        """Raises BuildError if the disk refuses. The record in memory stays as it is."""
        status = record.status.model_copy(update=changes)
        await self._io(lambda: self._store.save(status))

    async def open_log(self, build_id: str) -> EventLog:
        return await self._io(lambda: EventLog.open(self._store.events_path(build_id)))

    def remember(self, status: BuildStatus) -> None:
        """For the list of builds."""
        self._index[status.id] = (status.created, status.state)

    def tell(self, record: BuildRecord, *notes: Note) -> None:
        record.log.append(self._clock.now(), notes)

    async def _io(self, work: Callable[[], _T]) -> _T:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._disk, work)
        except OSError as error:
            raise disk_error(error) from error
