"""Builds under way. A restart ends them: what ran with the machine that is gone is an INTERNAL_ERROR."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx

from gcp_emulator.build_engine import Programs
from gcp_emulator.build_images import RegistryImages
from gcp_emulator.build_log import BuildLog, split_bucket
from gcp_emulator.build_steps import Failed, Kind, Work
from gcp_emulator.build_store import ENDED, BuildStore, Status
from gcp_emulator.clock import Clock
from gcp_emulator.faults import Faults
from gcp_emulator.grpc_server import wait_out
from gcp_emulator.run_errors import Refused
from gcp_emulator.storage_store import Store

AT_A_TIME = 10
"""https://cloud.google.com/build/quotas: concurrent builds of a region."""


class BuildRunner:
    """client: to the registry of a host, with the builds' credentials. folder: its own.

    Faults strike at `build`: slow (`seconds`), never ending (`forever`), INTERNAL_ERROR (any `code`), or ended with the
    status that `reason` names.
    """

    def __init__(  # noqa: PLR0913 - what builds have to do with
        self, *, store: BuildStore, objects: Store, programs: Programs, client: Callable[[str], httpx.AsyncClient],
        folder: Path, clock: Clock, faults: Faults,
    ) -> None:  # fmt: skip
        self._store = store
        self._objects = objects
        self._programs = programs
        self._client = client
        self._folder = folder
        self._clock = clock
        self._faults = faults
        self._slots = asyncio.Semaphore(AT_A_TIME)
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._cancelled: set[str] = set()

    async def start(self) -> None:
        await self._programs.sweep()
        await asyncio.to_thread(shutil.rmtree, self._folder, ignore_errors=True)
        for build in self._store.unfinished():
            self._end(build, Status.INTERNAL_ERROR, "Build failed due to internal error: its worker was lost")

    async def stop(self) -> None:
        """The next start says what became of them."""
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    def submit(self, build: Any) -> None:
        task = asyncio.create_task(self._run(build))
        self._tasks[build.name] = task
        task.add_done_callback(lambda _: self._tasks.pop(build.name, None))

    async def cancel(self, name: str) -> Any:
        """The build, CANCELLED: nothing of it runs any more. Raises Refused."""
        build, task = self._store.find(name), self._tasks.get(name)
        if build is None or build.status in ENDED or task is None:
            raise Refused("FAILED_PRECONDITION", f"cannot cancel build {name!r}: it has already finished")
        self._cancelled.add(name)
        task.cancel()
        await asyncio.wait([task])
        return self._store.find(name)

    async def _run(self, build: Any) -> None:
        try:
            await self._in_time(build)
        except asyncio.CancelledError:
            if build.name not in self._cancelled:
                raise
            self._end(build, Status.CANCELLED, "Build cancelled")

    async def _in_time(self, build: Any) -> None:
        """Waits for a place, then works for as long as the build may."""
        if not await self._before(self._slots.acquire(), build.queue_ttl.seconds):
            return self._end(build, Status.EXPIRED, "Build expired: it was queued for longer than its queue_ttl")
        try:
            build.status = Status.WORKING
            self._store.stamp(build.start_time)
            self._store.put(build)
            if not await self._before(self._work(build), build.timeout.seconds):
                self._end(build, Status.TIMEOUT, "Build timed out")
        finally:
            self._slots.release()
        return None

    async def _work(self, build: Any) -> None:
        if await self._struck(build):
            return None
        folder = self._folder / build.id
        await asyncio.to_thread(folder.mkdir, parents=True)
        where = split_bucket(build.logs_bucket, build.id) if build.logs_bucket else ("", "")
        try:
            async with BuildLog(self._objects, *where) as log:
                failed = await self._worked(build, folder, log)
        finally:
            await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
        if failed is None:
            return self._end(build, Status.SUCCESS, "")
        build.failure_info.type_ = failed.kind
        build.failure_info.detail = (
            f"Build step failure: {failed}" if failed.kind == Kind.USER_BUILD_STEP else str(failed)
        )
        return self._end(build, Status.FAILURE, str(failed))

    async def _worked(self, build: Any, folder: Path, log: BuildLog) -> Failed | None:
        """The log is whole when the build's end is told, so the end is left to the caller."""
        images = RegistryImages(self._client, folder)
        work = Work(
            build, folder=folder, log=log, store=self._store, objects=self._objects, programs=self._programs,
            images=images,
        )  # fmt: skip
        try:
            await work.run()
        except Failed as failed:
            return failed
        except asyncio.CancelledError:
            log.add("ERROR: context canceled")
            raise
        finally:
            await asyncio.shield(work.close())
        return None

    async def _struck(self, build: Any) -> bool:
        fault = self._faults.strike("build", build.name)
        if fault is None:
            return False
        await wait_out(fault, self._clock)
        if fault.code != "OK":
            self._end(build, Status.INTERNAL_ERROR, fault.words("build", build.name))
        elif fault.reason:
            self._end(build, Status.__members__[fault.reason], f"Build ended with {fault.reason}")
        return bool(build.status in ENDED)

    async def _before(self, what: Any, seconds: int) -> bool:
        """Whether it ended within the time, by the twin's clock; else it is cancelled, and over. 0: no limit."""
        work = asyncio.ensure_future(what)
        limit = asyncio.ensure_future(self._clock.sleep(seconds)) if seconds else None
        try:
            await asyncio.wait([one for one in (work, limit) if one], return_when=asyncio.FIRST_COMPLETED)
        finally:
            if limit:
                limit.cancel()
            if ended := work.done():
                work.result()
            else:
                work.cancel()
                await asyncio.wait([work])
        return bool(ended)

    def _end(self, build: Any, status: Any, detail: str) -> None:
        build.status, build.status_detail = status, detail
        self._store.stamp(build.finish_time)
        self._store.put(build)
