"""One preflight: which target is asked about, its questions, and those that every target has."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol

from cloud_manager import deployment_yaml, names
from cloud_manager.builder import Builder
from cloud_manager.deployment import Key
from cloud_manager.deployment_spec import DeploymentSpec
from cloud_manager.preflight import Found, Preflight, Question, Report, Unasked, answers, failed, passed, skipped
from cloud_manager.settings import Settings
from cloud_manager.targets.target import Target

USUAL = "gcp-cloudrun"
"""Where neither a file nor an option says which target: the one that is paid for."""
_FILE = "deployment.yaml"
_NO_BUILD = "0" * 32
"""An id that no build has: asking for it shows that the builder answers."""


class Targets(Protocol):
    """`targets.catalog.Catalog`."""

    def get(self, name: str, /) -> Target: ...


def _cloud_run(settings: Settings) -> Preflight:
    from cloud_manager.targets.cloud_run_preflight import CloudRunPreflight

    return CloudRunPreflight(settings)


def _docker(settings: Settings) -> Preflight:
    from cloud_manager.targets.docker_preflight import DockerPreflight

    return DockerPreflight(settings)


def _local(settings: Settings) -> Preflight:
    from cloud_manager.targets.local_preflight import LocalPreflight

    return LocalPreflight(settings)


FACTORIES: Mapping[str, Callable[[Settings], Preflight]] = {
    "docker": _docker,
    "gcp-cloudrun": _cloud_run,
    "local": _local,
}
"""`deploy.type` -> preflight, imported when it is first asked for; the same names as the targets'."""


class Preflights:
    def __init__(self, settings: Settings, targets: Targets, builder: Builder) -> None:
        self._settings = settings
        self._targets = targets
        self._builder = builder

    async def of_project(self, key: Key, target: str | None = None) -> Report:
        """Of a project's file, for its own target or another.

        Raises:
            NotFound, InvalidSpec: there is no such project, or its file is not right.
            DeployError: `target_unavailable`: a target that is not served here.
        """
        return await self.run(await asyncio.to_thread(self._read, key), target)

    async def run(self, spec: DeploymentSpec | None, target: str | None = None) -> Report:
        """Raises DeployError: `target_unavailable`."""
        name = target or (spec.deploy.type if spec is not None else USUAL)
        if name not in FACTORIES:
            self._targets.get(name)  # raises, and says who else serves it
        preflight = FACTORIES[name](self._settings)
        try:
            file = [Question("file", lambda: self._file(name, spec))] if spec is not None else []
            questions = [*file, *preflight.questions(spec), Question("builder", self._answers)]
            return Report.of(name, await answers(questions))
        finally:
            await preflight.aclose()

    async def _file(self, name: str, spec: DeploymentSpec) -> Found:
        """What the target refuses of the file without asking anybody."""
        if name == "local" and not self._settings.local_target:
            raise Unasked(skipped("the target is not allowed here"))
        problems = self._targets.get(name).check(spec)
        if problems:
            causes = dict.fromkeys(problem.cause.rstrip(".") for problem in problems)
            fixes = dict.fromkeys(problem.fix.rstrip(".") for problem in problems)
            return failed("; ".join(causes), "; ".join(fixes))
        return passed(f"{name} can do what it says")

    async def _answers(self) -> Found:
        await self._builder.status(_NO_BUILD)
        return passed(self._settings.image_builder_url)

    def _read(self, key: Key) -> DeploymentSpec:
        folder: Path = names.project_dir(self._settings.shared_root, key)
        return deployment_yaml.load(folder / _FILE).spec
