"""`deploy.type: gcp-cloudrun`: services of Google Cloud Run, through Google's own clients.

A change is begun and left to Google: what comes of it is seen in the service itself, whoever looks, so nothing of it is
kept here. Google's packages are imported when something is first asked of Google, in a thread: it takes seconds.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing
from functools import partial
from importlib.util import find_spec
from typing import TYPE_CHECKING

from cloud_manager.clock import Clock
from cloud_manager.deployment import Key
from cloud_manager.deployment_spec import DeploymentSpec, python_version
from cloud_manager.errors import DeployError, InvalidSpec, TargetError
from cloud_manager.settings import Settings
from cloud_manager.spec_checks import DEFAULT_PYTHON
from cloud_manager.targets.calls import Told, untold
from cloud_manager.targets.cloud_run_checks import NOT_INSTALLED, problems_of
from cloud_manager.targets.cloud_run_place import Place, short
from cloud_manager.targets.target import BuildPlatform, Observation, Wanted
from image_builder.contract import Problem

if TYPE_CHECKING:
    from google.auth.credentials import Credentials
    from google.cloud.run_v2 import Service

    from cloud_manager.targets.cloud_run_cloud import Cloud
    from cloud_manager.targets.cloud_run_snapshot import Snapshots

log = logging.getLogger(__name__)
_TRIES = 4
"""For a change that met another one: Google writes to a service, too, while it comes up."""
_WORDS = 5
_REMEMBERED = 1000
LOOK_PERIOD = 1.0
"""Seconds for which a look at all services is good enough: readiness is to be noticed within two."""


def cloud_run_target(settings: Settings, clock: Clock, told: Told = untold) -> CloudRunTarget:
    """The target in the project that the settings name. told: hears of each call to Google."""
    connect = partial(_connected, told=told)
    return CloudRunTarget(place_of(settings), clock, installed=_is_installed(), connect=connect)


def place_of(settings: Settings) -> Place:
    more = tuple(word.strip() for word in settings.gcp_regions.split(",") if word.strip())
    network, repository = settings.gcp_network, settings.artifact_repository
    owner = settings.gcp_owner
    return Place(settings.gcp_project, settings.gcp_region, more, repository, network, owner)


class CloudRunTarget:
    name = "gcp-cloudrun"
    ignores: tuple[str, ...] = (
        "build.os",
        "deploy.network.service_host_ip",
        "deploy.network.service_host_port",
        "deploy.k8s",
    )

    def __init__(
        self,
        place: Place,
        clock: Clock,
        *,
        installed: bool = True,
        period: float = LOOK_PERIOD,
        connect: Callable[[Place], Awaitable[Cloud]] | None = None,
    ) -> None:
        """Args:
        period: for which a look at all services is good enough, seconds.
        connect: the way to Google; else with the credentials of this process.
        """
        self._place = place
        self._installed = installed
        self._period = period
        self._connect = connect or _connected
        self._clock = clock
        self._google: tuple[Cloud, Snapshots] | None = None
        self._opening = asyncio.Lock()
        self._words: dict[str, list[str]] = {}

    def check(self, spec: DeploymentSpec) -> list[Problem]:
        return problems_of(spec, self._place, installed=self._installed)

    def build_platform(self, spec: DeploymentSpec) -> BuildPlatform:
        try:
            python = python_version(spec) or DEFAULT_PYTHON
        except ValueError as error:
            raise InvalidSpec(f"build.components.libs: {error}", "write e.g. python==3.11") from error
        return BuildPlatform("linux/amd64", python, repository=self._place.images(spec))

    async def observe(self, key: Key) -> Observation:
        _, snapshots = await self._open()
        from cloud_manager.targets.cloud_run_observation import observation, wants_words

        services = await snapshots.of(key, calm=True)
        failed = wants_words(services)
        return observation(services, await self._last_words(failed) if failed is not None else ())

    async def apply(self, wanted: Wanted) -> None:
        """As promised by the protocol; a revision that failed is tried anew."""
        _, snapshots = await self._open()
        try:
            await _insisted(partial(self._apply, wanted))
        finally:
            snapshots.forget()

    async def remove(self, key: Key) -> None:
        _, snapshots = await self._open()
        try:
            services = await snapshots.of(key)
            await self._delete(key, *(one.name for one in services if not one.delete_time))
        finally:
            snapshots.forget()

    async def resolved(self, key: Key, image_uri: str) -> str | None:
        """Google says it in the revision, not in the service."""
        cloud, snapshots = await self._open()
        from cloud_manager.targets.cloud_run_observation import image_of_ready, newest

        lead = newest(await snapshots.of(key, calm=True))
        return None if lead is None else image_of_ready(lead, await cloud.revisions(lead.name))

    async def logs(self, key: Key, *, tail: int, follow: bool) -> AsyncIterator[str]:
        cloud, snapshots = await self._open()
        from cloud_manager.targets.cloud_run_logs import read_log

        async def services() -> Sequence[Service]:
            return await snapshots.of(key, calm=True)

        reading = read_log(cloud, services, self._clock, self._place.project, tail=tail, follow=follow)
        async with aclosing(reading) as lines:
            async for line in lines:
                yield line

    async def aclose(self) -> None:
        google, self._google = self._google, None
        if google is not None:
            await google[1].aclose()
            await google[0].aclose()

    async def _apply(self, wanted: Wanted) -> None:
        cloud, snapshots = await self._open()
        from cloud_manager.targets.cloud_run_observation import Create, Delete, Update, next_step
        from cloud_manager.targets.cloud_run_spec import service_of

        wish = service_of(wanted, self._place)
        others = [one for one in await snapshots.of(wanted.key) if one.name != wish.name]
        there = await self._there(wanted.key, wish.name)
        match next_step([*others, *([there] if there is not None else [])], wish):
            case Create(service):
                if not await cloud.create(service):
                    raise _met(wish.name)
            case Update(service):
                await cloud.update(service)
            case Delete(names):
                await self._delete(wanted.key, *names)

    async def _delete(self, key: Key, *names: str) -> None:
        await asyncio.gather(*(_insisted(partial(self._delete_ours, key, name)) for name in names))

    async def _delete_ours(self, key: Key, name: str) -> None:
        """The very service that is ours now: since all were listed the name may have become someone else's."""
        cloud, _ = await self._open()
        from cloud_manager.targets.cloud_run_spec import is_ours

        service = await cloud.service(name)
        if service is not None and is_ours(service, key, self._place.owner) and not service.delete_time:
            await cloud.delete(name, service.etag)

    async def _there(self, key: Key, name: str) -> Service | None:
        """The service of this name as it is now, for a change is refused that is based on what it was.

        Raises:
            TargetError: it is someone else's.
        """
        cloud, _ = await self._open()
        from cloud_manager.targets.cloud_run_spec import is_ours

        service = await cloud.service(name)
        if service is None or is_ours(service, key, self._place.owner):
            return service
        labels = ", ".join(f"{label}={value}" for label, value in sorted(service.labels.items())) or "none"
        raise TargetError(
            f"the service {short(name)} in Cloud Run is not ours: it belongs to someone else (its labels: {labels})",
            "write another deploy.service_name, or delete that service if nobody needs it",
            code="name_taken",
        )

    async def _last_words(self, service: Service) -> list[str]:
        """Of a failed revision's log; none where it cannot be read, which is no reason to say nothing at all."""
        revision, (cloud, _) = service.latest_created_revision, await self._open()
        from cloud_manager.targets.cloud_run_logs import last_words

        if revision not in self._words:
            try:
                found = await last_words(cloud, service, self._place.project, _WORDS)
            except DeployError as error:
                log.info("the log of %s cannot be read: %s", short(revision), error)
                return []
            if not found:  # it may still be on its way
                return []
            if len(self._words) >= _REMEMBERED:
                self._words.clear()
            self._words[revision] = found
        return self._words[revision]

    async def _open(self) -> tuple[Cloud, Snapshots]:
        async with self._opening:
            if self._google is None:
                self._google = await self._opened()
            return self._google

    async def _opened(self) -> tuple[Cloud, Snapshots]:
        """Raises TargetError: there is no project, there are no credentials, or the packages are missing."""
        if not self._place.project or not self._place.regions:
            what = "GCP_REGION" if self._place.project else "GCP_PROJECT"
            raise TargetError(f"Google Cloud: {what} is not set", f"set {what} for the manager", code="not_set_up")
        if not self._installed:
            raise TargetError(*NOT_INSTALLED, code="not_set_up")
        cloud = await self._connect(self._place)
        from cloud_manager.targets.cloud_run_snapshot import Snapshots

        async def look() -> list[Service]:
            found = await asyncio.gather(*map(cloud.services, self._place.regions))
            return [service for services in found for service in services]

        return cloud, Snapshots(look, self._period, owner=self._place.owner)


async def _connected(place: Place, told: Told = untold) -> Cloud:
    """Raises TargetError: there are no credentials."""
    credentials = await asyncio.to_thread(_credentials)
    from cloud_manager.targets.cloud_run_cloud import Cloud

    return Cloud(place, credentials, told=told)


async def _insisted(change: Callable[[], Awaitable[None]]) -> None:
    """Begun anew, with what is there then, while it meets changes of others."""
    for tries in range(1, _TRIES + 1):
        try:
            await change()
        except DeployError as error:
            if error.problem.code != "changed_meanwhile" or tries == _TRIES:
                raise
        else:
            return


def _credentials() -> Credentials:
    """Blocking. All that needs Google's packages is imported here, in a thread."""
    from cloud_manager.targets import cloud_run_logs, cloud_run_observation  # noqa: F401
    from cloud_manager.targets.cloud_run_cloud import credentials

    return credentials()


def _is_installed() -> bool:
    """Whether Google's packages are there, which are an extra."""
    try:
        return all(find_spec(name) is not None for name in ("google.cloud.run_v2", "google.cloud.logging_v2"))
    except ModuleNotFoundError:
        return False


def _met(name: str) -> TargetError:
    cause = f"the service {short(name)} has been made by someone else just now"
    return TargetError(cause, "nothing to do: it is looked at again", code="changed_meanwhile", retryable=True)
