"""Clears the cache at the start and after each build, and when somebody asks for it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path

from image_builder.build_queue import BuildQueue
from image_builder.build_store import disk_error
from image_builder.cache import Cache
from image_builder.cache_plan import newest_of_owners, published
from image_builder.cache_verify import verify
from image_builder.contract import BuildState, BuildStatus, CacheCleared, CacheView, PinRequest
from image_builder.errors import BuildError
from image_builder.leases import Leases
from image_builder.work import StopFlag, T, in_thread

_log = logging.getLogger(__name__)
_ALL = 1_000_000_000


class CacheKeeper:
    """One at a time clears; builds go on meanwhile. Used on the event loop."""

    def __init__(self, folder: Path, queue: BuildQueue, *, bound: int, history: int, own: Path | None = None) -> None:
        """folder, own: as `Cache` has them. bound: bytes, 0 for none. history: builds that are remembered once done."""
        self._folder = folder
        self._queue = queue
        self._history = history
        self._cache = Cache(folder, Leases(folder), bound, own)
        self._clearing = asyncio.Lock()
        self.size: int | None = None
        """Bytes on the disk, as it was last looked at."""

    async def run(self) -> None:
        """For ever. A disk that refuses is logged, and tried again after the next build."""
        while True:
            try:
                await self.clear()
            except BuildError as error:
                _log.warning("the cache could not be cleared: %s", error)
            except Exception:  # noqa: BLE001 - a fault of ours must not end all clearing; the log has it whole
                _log.exception("the cache could not be cleared")
            await self._queue.ended.wait()
            self._queue.ended.clear()

    async def view(self) -> CacheView:
        """Raises BuildError."""
        builds = await self._succeeded()
        return await self._in_thread(lambda _: self._cache.view(newest_of_owners(builds), published(builds)))

    async def pin(self, pin: PinRequest) -> None:
        """Raises BuildError: the disk refuses."""
        await self._in_thread(lambda _: self._cache.pin(pin.owner, pin.digests))

    async def clear(self, *, dry_run: bool = False, verified: bool = False) -> CacheCleared:
        """Remove what is over the bound, and the records of old builds without an image.

        verified: read every blob and wheel before, and remove what is corrupt.

        Raises:
            BuildError: the disk refuses; what went before is gone.
        """
        async with self._clearing:
            builds = await self._succeeded()
            done = await self._in_thread(lambda flag: self._clear(builds, flag, dry_run, verified))
            records = await self._queue.prune(self._history, self._cache.keeps, dry_run=dry_run)
        gone = (*done.gone, *records)
        for thing in () if dry_run else gone:
            _log.info("removed %s %s, %d bytes: %s", thing.kind, thing.name, thing.size, thing.why)
        after = done.after - sum(thing.size for thing in records)
        self.size = done.before if dry_run else after
        return done.model_copy(update={"gone": gone, "after": after})

    def _clear(self, builds: list[BuildStatus], flag: StopFlag, dry_run: bool, verified: bool) -> CacheCleared:
        before = self._cache.size()
        count, corrupt = verify(self._cache, self._folder, flag, dry_run=dry_run) if verified else (0, [])
        done = self._cache.clear(newest_of_owners(builds), flag, published=published(builds), dry_run=dry_run)
        gone = (*corrupt, *done.gone)
        return done.model_copy(update={"before": before, "verified": count, "gone": gone})

    async def _succeeded(self) -> list[BuildStatus]:
        return await self._queue.newest(BuildState.SUCCEEDED, _ALL)

    async def _in_thread(self, work: Callable[[StopFlag], T]) -> T:
        try:
            return await in_thread(work)
        except OSError as error:
            raise disk_error(error) from error
