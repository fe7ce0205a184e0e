"""Makes services what they are wished to be: one task for each, that goes on where a predecessor was killed."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from datetime import UTC, datetime
from typing import Any

from google.cloud import run_v2
from google.rpc import code_pb2

from gcp_emulator.clock import Clock
from gcp_emulator.faults import Fault, Faults
from gcp_emulator.grpc_server import wait_out
from gcp_emulator.operations import Operations
from gcp_emulator.run_conditions import ABORTED, CODES, Failure, State, failure_for
from gcp_emulator.run_defaults import ingress_container
from gcp_emulator.run_instances import Address, DidNotStart, Instances
from gcp_emulator.run_names import Name
from gcp_emulator.run_project import Project
from gcp_emulator.run_reconcile import failed, failure_shown, marked, ready, serving, settled, state_of
from gcp_emulator.run_store import RunStore

_log = logging.getLogger(__name__)
# What Google says of the older of two updates is not known to us; it says ABORTED where writers meet.
_SUPERSEDED = Failure("", "The operation was superseded by a newer update of the service.", ABORTED)


def _tell(task: asyncio.Task[None]) -> None:
    """A defect of ours leaves one service where it is, and no silence."""
    if not task.cancelled() and (error := task.exception()) is not None:
        _log.error("a service is no longer looked after", exc_info=error)


class RunController:
    """Args:
    pace: seconds that each step of a change takes (starting, routing, deleting), by the clock.
    """

    def __init__(  # noqa: PLR0913 - the parts that it brings together
        self,
        *,
        store: RunStore,
        operations: Operations,
        instances: Instances,
        project: Project,
        clock: Clock,
        faults: Faults,
        pace: float,
    ) -> None:
        self._store = store
        self._operations = operations
        self._instances = instances
        self._project = project
        self._clock = clock
        self._faults = faults
        self._pace = pace
        self._woken: dict[str, asyncio.Event] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._starting: dict[str, asyncio.Task[None]] = {}

    async def start(self) -> None:
        """Nothing of a predecessor runs any more; what it was about goes on."""
        await self._instances.sweep()
        for name, operation, _ in self._store.all_pending():
            if self._store.service(name) is None:
                self._end_of_deleted(name, operation)
        for service in self._store.services():
            if not service.reconciling:
                self._end_operations(service, failure_shown(service, CODES))
            self.wake(service.name)

    async def stop(self) -> None:
        tasks = [*self._tasks.values(), *self._starting.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._instances.close()

    def wake(self, service: str) -> None:
        """Something about the service was written."""
        self._woken.setdefault(service, asyncio.Event()).set()
        if service not in self._tasks:
            self._tasks[service] = asyncio.create_task(self._drive(service))
            self._tasks[service].add_done_callback(_tell)

    def now(self) -> datetime:
        return datetime.fromtimestamp(self._clock.now(), UTC)

    async def address(self, revision: str) -> Address | None:
        """Where a revision answers; None if it does not exist. Raises DidNotStart."""
        found = self._store.revision(revision)
        return None if found is None else await self._instances.ensure(found)

    async def _drive(self, name: str) -> None:
        woken = self._woken[name]
        try:
            while (service := self._store.service(name)) is not None:
                woken.clear()
                if service.delete_time:
                    await self._remove(service)
                elif service.reconciling:
                    await self._progress(service, woken)
                else:
                    await self._until(self._align(service), woken)
                    await woken.wait()
        finally:
            self._tasks.pop(name, None)
            self._woken.pop(name, None)

    async def _progress(self, service: run_v2.Service, woken: asyncio.Event) -> None:
        """Bring up the newest revision, then settle; a newer wish comes first."""
        newest = service.latest_created_revision
        if newest not in self._starting:
            self._starting[newest] = asyncio.create_task(self._bring_up(newest))
        if await self._until(asyncio.shield(self._starting[newest]), woken):
            self._starting.pop(newest).result()
            if await self._until(self._clock.sleep(self._pace), woken):
                self._settle(service.name)

    @staticmethod
    async def _until(work: Coroutine[Any, Any, None] | asyncio.Future[None], woken: asyncio.Event) -> bool:
        """Whether the work was done before we were woken; else it is cancelled."""
        working, waiting = asyncio.ensure_future(work), asyncio.ensure_future(woken.wait())
        try:
            await asyncio.wait([working, waiting], return_when=asyncio.FIRST_COMPLETED)
            done = working.done() and not working.cancelled()
            if done:
                working.result()
            return done
        finally:
            for task in (working, waiting):
                task.cancel()
            await asyncio.gather(working, waiting, return_exceptions=True)

    async def _bring_up(self, name: str) -> None:
        revision = self._store.revision(name)
        if revision is None or state_of(revision) != State.CONDITION_RECONCILING:
            return
        failure = await self._faulty(revision)
        await self._clock.sleep(self._pace)
        try:
            if failure is None:
                await self._instances.ensure(revision)
        except DidNotStart as error:
            failure = error.failure
        now = self.now()
        self._store.put_revision(failed(revision, failure, now) if failure else ready(revision, now))

    async def _faulty(self, revision: run_v2.Revision) -> Failure | None:
        """A rule for the call `revision`, by the revision's full name: slow, never, or failing as `reason` says."""
        fault = self._faults.strike("revision", revision.name)
        if fault is None:
            return None
        await wait_out(fault, self._clock)
        if not fault.reason:
            return None
        container = ingress_container(list(revision.containers))
        return failure_for(
            fault.reason,
            fault.message,
            self._project.where(revision.name),
            image=container.image,
            port=container.ports[0].container_port,
        )

    def _settle(self, name: str) -> None:
        service = self._store.service(name)
        parsed = Name.parse(name)
        if service is None or parsed is None:
            return
        tags = {target.tag for target in service.traffic if target.tag}
        revisions = self._store.revisions(name)
        uris = self._project.uri_of_tag(parsed, tags)
        service, failure = settled(service, revisions, self.now(), uri_of_tag=uris, codes=CODES)
        with self._store.transaction():
            self._store.put_service(service)
            self._end_operations(service, failure)

    def _end_operations(self, service: run_v2.Service, failure: Failure | None) -> None:
        for operation, generation in self._store.pending(service.name):
            newer = generation < service.generation
            self._end_operation(operation, service, _SUPERSEDED if newer else failure)

    def _end_operation(self, operation: str, service: run_v2.Service, failure: Failure | None) -> None:
        """Unless a rule for the call `operation`, by the service's name, makes it slow, endless or wrong."""
        fault = self._faults.strike("operation", service.name)
        if fault is None:
            return self._end(operation, service, failure)
        if fault.code != "OK":
            words = fault.words("operation", service.name, self._project.number)
            failure = Failure("", words, int(code_pb2.Code.Value(fault.code)))
        if fault.seconds or fault.forever:
            self._starting[operation] = asyncio.create_task(self._end_late(operation, service, failure, fault))
            return None
        return self._end(operation, service, failure)

    async def _end_late(self, operation: str, service: run_v2.Service, failure: Failure | None, fault: Fault) -> None:
        await wait_out(fault, self._clock)
        self._end(operation, service, failure)
        self._starting.pop(operation, None)

    def _end(self, operation: str, service: run_v2.Service, failure: Failure | None) -> None:
        message = run_v2.Service.pb(service)
        with self._store.transaction():
            self._store.delete_pending(service.name, operation)
            self._operations.note(operation, message)
            if failure is not None:
                self._operations.fail(operation, failure.code, failure.message)
            else:
                self._operations.finish(operation, message)

    def _end_of_deleted(self, service: str, operation: str) -> None:
        """We were killed between the end of a service and that of the operation."""
        deleted = run_v2.Service()
        found = self._operations.find(operation)
        if found is not None:
            found.metadata.Unpack(run_v2.Service.pb(deleted))
        deleted.name = service
        self._end(operation, deleted, None)

    async def _align(self, service: run_v2.Service) -> None:
        """The revisions that serve run, the others do not, and say so."""
        active = {f"{service.name}/revisions/{name}" for name in serving(service)}
        for revision in self._store.revisions(service.name).values():
            if changed := marked(revision, active=revision.name in active, now=self.now()):
                self._store.put_revision(changed)
        await asyncio.gather(
            *(self._instances.stop(name) for name in self._instances.running(service.name) if name not in active)
        )
        warm = [name for name in sorted(active) if self._is_kept_warm(service, name)]
        await asyncio.gather(*(self._try(name) for name in warm))

    def _is_kept_warm(self, service: run_v2.Service, revision: str) -> bool:
        """Without minimum instances a revision starts with the first request to it."""
        found = self._store.revision(revision)
        return bool(found and (found.scaling.min_instance_count or service.scaling.min_instance_count))

    async def _try(self, revision: str) -> None:
        try:
            await self.address(revision)
        except DidNotStart:
            return  # it was healthy once: the next request to it tries again, and is told

    async def _remove(self, service: run_v2.Service) -> None:
        """A rule for the call `deletion`, by the service's full name, makes it slow or endless."""
        if (fault := self._faults.strike("deletion", service.name)) is not None:
            await wait_out(fault, self._clock)
        for revision in self._store.revisions(service.name).values():
            if starting := self._starting.pop(revision.name, None):
                starting.cancel()
                await asyncio.gather(starting, return_exceptions=True)
            await self._instances.stop(revision.name)
        await self._clock.sleep(self._pace)
        service.reconciling = False
        with self._store.transaction():
            self._store.delete_service(service.name)
            for operation, _ in self._store.pending(service.name):
                self._end_operation(operation, service, None)
