"""`deploy.type` -> target. A target is imported and built when it is first asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from cloud_manager.builder import Builder
from cloud_manager.clock import Clock
from cloud_manager.errors import DeployError, InvalidSpec
from cloud_manager.settings import Settings
from cloud_manager.targets.calls import Told, untold
from cloud_manager.targets.target import Target

Factory = Callable[[Settings, Builder, Clock, Told], Target]

_NOT_HERE: Mapping[str, str] = {
    "aws-ecs": "TANGO deploys to AWS with its own deployer",
    "k8s": "TANGO deploys to Kubernetes with its own deployer",
    "native": "TANGO deploys to bare machines with its own deployer",
    "pcserver": "TANGO deploys to PC servers with its own deployer",
    "ondevice": "TANGO deploys to devices with its own deployer",
}
"""Types of TANGO's files that are not served here, and who serves them."""


def _local(settings: Settings, builder: Builder, clock: Clock, _told: Told) -> Target:
    from cloud_manager.targets.local import LocalTarget

    return LocalTarget(settings, builder, clock)


def _docker(settings: Settings, builder: Builder, clock: Clock, told: Told) -> Target:
    from cloud_manager.targets.docker import docker_target

    return docker_target(settings, builder, clock, told)


def _cloud_run(settings: Settings, builder: Builder, clock: Clock, told: Told) -> Target:
    from cloud_manager.targets.cloud_run import cloud_run_target

    return cloud_run_target(settings, clock, told)


FACTORIES: Mapping[str, Factory] = {
    "docker": _docker,
    "gcp-cloudrun": _cloud_run,
    "local": _local,
}


class Catalog:
    """The targets of this manager, one of each at most."""

    def __init__(
        self,
        settings: Settings,
        builder: Builder,
        clock: Clock,
        *,
        factories: Mapping[str, Factory] = FACTORIES,
        told: Told = untold,
    ) -> None:
        """told: hears of the calls that are made to clouds."""
        self._told = told
        self._settings = settings
        self._builder = builder
        self._clock = clock
        self._factories = factories
        self._built: dict[str, Target] = {}

    def available(self) -> tuple[str, ...]:
        """Values of `deploy.type` that `get` answers, in alphabetical order."""
        return tuple(sorted(name for name in self._factories if name != "local" or self._settings.local_target))

    def get(self, type: str) -> Target:
        """The target, the same one every time.

        Raises:
            DeployError: `target_unavailable`, with what to do instead.
        """
        if type not in self.available():
            raise self._unavailable(type)
        if type not in self._built:
            self._built[type] = self._factories[type](self._settings, self._builder, self._clock, self._told)
        return self._built[type]

    async def aclose(self) -> None:
        for target in self._built.values():
            await target.aclose()
        self._built.clear()

    def _unavailable(self, type: str) -> DeployError:
        cause = f"deploy.type {type} is not available here"
        if type == "local" and "local" in self._factories:
            fix = "set LOCAL_TARGET=1 to allow it; it is off because its programs run as the manager's user, unconfined"
        else:
            there = self.available()
            choose = (
                f"choose one of: {', '.join(there)}" if there else "set LOCAL_TARGET=1 and choose deploy.type local"
            )
            elsewhere = _NOT_HERE.get(type)
            fix = f"{elsewhere}; here, {choose}" if elsewhere else choose
        return InvalidSpec(cause, fix, code="target_unavailable")
