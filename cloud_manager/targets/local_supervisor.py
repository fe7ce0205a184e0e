"""Keeps one project of the `local` target alive: `python -m cloud_manager.targets.local_supervisor FOLDER`.

One small process per project, detached from the manager and outliving it. It holds the lock of the folder for its
life, keeps the public address, runs the wished revision, turns the address to it once it is healthy, and only then
stops the older one. It ends when told so by the file `stop` or by SIGTERM, after everything it started is dead.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from contextlib import suppress
from pathlib import Path

from cloud_manager.targets.local_folder import Folder
from cloud_manager.targets.local_front import CannotListen, Front
from cloud_manager.targets.local_health import free_port, is_free
from cloud_manager.targets.local_log import LogWriter
from cloud_manager.targets.local_program import adopt_orphans, carriers, family, kill_all, reap_strangers
from cloud_manager.targets.local_run import Report, Run
from cloud_manager.targets.local_service import Service

LOOK = 0.2
"""Seconds between two looks at the wish."""
_HOUSEKEEPING = 25
"""Looks between two collections of dead orphans."""


class Supervisor:
    def __init__(self, folder: Folder, log: LogWriter) -> None:
        self._folder = folder
        self._log = log
        self._identity = folder.identity() or ""
        self._last = folder.report()
        self._nonce = ""
        self._newest: Service | None = None
        self._serving: Service | None = None
        self._services: list[Service] = []
        self._front: Front | None = None
        self._next_front: Front | None = None
        self._retiring: dict[Service, asyncio.Task[None]] = {}
        self._starts = 0
        self._dirty = True
        self._awake = asyncio.Event()
        self._told_to_stop = False

    async def live(self) -> None:
        """Until told to stop, or until a defect of ours; then everything is dead."""
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, self._stop_soon)
        await asyncio.to_thread(kill_all, lambda: carriers(self._identity))  # left by a killed predecessor
        try:
            await self._resume()
            await self._keep()
        finally:
            await self._end()

    async def _keep(self) -> None:
        looks = 0
        while not self._told_to_stop and not self._folder.stop.exists():
            await self._take_wish()
            await self._turn_to_newest()
            self._save()
            looks += 1
            if looks % _HOUSEKEEPING == 0:
                reap_strangers(self._pids())
            with suppress(TimeoutError):
                await asyncio.wait_for(self._awake.wait(), LOOK)
            self._awake.clear()

    def _stop_soon(self) -> None:
        self._told_to_stop = True
        self._awake.set()

    async def _resume(self) -> None:
        """What served before a predecessor was killed serves again, also while a newer revision comes up."""
        wished = self._folder.wished()
        served = self._last.serving if self._last else None
        run = self._folder.load_run(served) if served and wished and served != wished[1] else None
        if run:
            self._serving = await self._start(run)

    async def _take_wish(self) -> None:
        wished = self._folder.wished()
        if wished is None or wished[0] == self._nonce:
            return
        self._nonce, revision = wished
        service = self._alive(revision)
        if service is self._serving:
            await self._drop_next_front()
        if service is None:
            run = self._folder.load_run(revision)
            if run is None:
                self._log.say(f"revision {revision} has no files; ask for it again")
                return
            service = await self._start(run)
        self._newest = service
        self._dirty = True
        for other in list(self._services):
            if other not in (service, self._serving):
                self._retire(other)

    def _alive(self, revision: str) -> Service | None:
        running = [one for one in self._services if one.trying and one not in self._retiring]
        return next((one for one in running if one.run.revision == revision), None)

    async def _start(self, run: Run) -> Service:
        self._starts += 1
        service = Service(
            run,
            mark=f"{self._identity}.{self._starts}",
            log=self._log,
            choose_port=self._choose_port,
            changed=self._wake,
        )
        self._services.append(service)
        try:
            await self._claim_address(run)
        except CannotListen as error:
            service.fail(error.problem)
        else:
            service.start()
        return service

    async def _claim_address(self, run: Run) -> None:
        """The public port is ours before the program starts, so that nobody takes it meanwhile."""
        if self._front and _serves(self._front, run):
            return await self._drop_next_front()
        if self._next_front and _serves(self._next_front, run):
            return None
        front = await self._listen(run)
        await self._drop_next_front()
        if self._serving:
            self._next_front = front
        else:
            old, self._front = self._front, front
            if old:
                await old.close()
        return None

    async def _listen(self, run: Run) -> Front:
        if run.public_port is not None:
            return await Front.listen(run.public_host, run.public_port)
        kept = self._last.port if self._last and self._last.host == run.public_host else None
        if kept is not None and is_free(kept, run.public_host):
            return await Front.listen(run.public_host, kept)
        return await Front.listen(run.public_host, None)

    async def _drop_next_front(self) -> None:
        front, self._next_front = self._next_front, None
        if front:
            await front.close()

    def _choose_port(self, wish: int) -> int:
        """The container's port if it is free, else another: it is the program that must read PORT."""
        taken = {front.port for front in (self._front, self._next_front) if front}
        taken |= {service.port for service in self._services if service.port and service.state != "stopped"}
        return wish if wish not in taken and is_free(wish) else free_port(taken)

    async def _turn_to_newest(self) -> None:
        """Clients reach the newest revision once it is healthy; the one before ends its connections, then dies."""
        newest = self._newest
        if newest is None or newest.state != "ready":
            return self._turn_to_serving()
        if newest is self._serving and self._front and self._front.backend == newest.port:
            return None
        old_front = self._front if self._next_front and not _serves(self._front, newest.run) else None
        if old_front:
            self._front, self._next_front = self._next_front, None
            old_front.stop_accepting()
        before, self._serving = self._serving, newest
        self._front.backend = newest.port  # type: ignore[union-attr]  # claimed before the start
        self._dirty = True
        for other in list(self._services):
            if other is not newest:
                self._retire(other, old_front or self._front if other is before else None)
        return None

    def _turn_to_serving(self) -> None:
        """After a restart of the serving program its private port may be another one."""
        serving = self._serving
        if serving and self._front:
            self._front.backend = serving.port if serving.state == "ready" else None

    def _retire(self, service: Service, front: Front | None = None) -> None:
        if service not in self._retiring:
            self._retiring[service] = asyncio.create_task(self._retired(service, front))

    async def _retired(self, service: Service, front: Front | None) -> None:
        if front and service.port:
            await front.drained(service.port, service.run.timing.drain)
        await service.stop()
        if front and front not in (self._front, self._next_front):
            await front.close()
        self._services.remove(service)
        del self._retiring[service]
        self._wake()

    def _wake(self) -> None:
        self._dirty = True
        self._awake.set()

    def _pids(self) -> list[int]:
        return [service.program.pid for service in self._services if service.program]

    def _save(self) -> None:
        if not self._dirty:
            return
        try:
            self._folder.save_report(self._report())
            self._dirty = False
        except OSError as error:
            self._log.say(f"cannot write the state: {error}")  # e.g. a full disk: tried again at the next look

    def _report(self) -> Report:
        front, serving = self._front, self._serving
        return Report(
            nonce=self._nonce,
            revision=self._newest.run.revision if self._newest else "",
            pid=os.getpid(),
            host=front.host if front else None,
            port=front.port if front else None,
            serving=serving.run.revision if serving and serving.state == "ready" else None,
            services=tuple(service.report() for service in self._services),
        )

    async def _end(self) -> None:
        for task in self._retiring.values():
            task.cancel()
        await asyncio.gather(*self._retiring.values(), return_exceptions=True)
        for front in (self._front, self._next_front):
            if front:
                front.stop_accepting()
        await asyncio.gather(*(service.stop() for service in self._services))
        for front in (self._front, self._next_front):
            if front:
                await front.close()
        await asyncio.to_thread(kill_all, lambda: [*carriers(self._identity), *family(os.getpid())[1:]])
        reap_strangers(())
        self._save()


def _serves(front: Front | None, run: Run) -> bool:
    return front is not None and front.host == run.public_host and run.public_port in (None, front.port)


async def supervise(folder: Folder) -> None:
    log = LogWriter(folder.logs)
    try:
        await Supervisor(folder, log).live()
    finally:
        log.close()


def main(path: str) -> int:
    """0 also if there is nothing to do: another supervisor is at work, or the project was removed."""
    folder = Folder(Path(path))
    if os.getsid(0) != os.getpid():
        os.setsid()
    try:
        with folder.holding_lock(seconds=2.0) as ours:
            if not ours or folder.wished() is None or folder.identity() is None:
                return 0
            adopt_orphans()
            asyncio.run(supervise(folder))
    except FileNotFoundError:
        return 0  # removed before we began
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
