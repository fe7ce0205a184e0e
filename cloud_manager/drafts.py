"""A deployment.yaml while somebody writes it: what is wrong with it, what means nothing, and where it is put."""

from __future__ import annotations

import asyncio
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

from cloud_manager import deployment_yaml, names, project_files, yaml_file
from cloud_manager.deployment import Key
from cloud_manager.deployment_spec import LoadedSpec
from cloud_manager.errors import DeployError, InvalidSpec
from cloud_manager.finding import Finding, in_order
from cloud_manager.reconcile import Targets
from cloud_manager.use_cases import FILE
from image_builder.contract import Problem


class CannotWrite(DeployError):
    """The shared disk is full, or not this manager's to write."""

    code = "read_only"
    http_status = 507


@dataclass(frozen=True, slots=True)
class Judgement:
    """What is said of a text. Without findings and problems `/start` would take it.

    findings: what is wrong in the text, or with the files that it names, by place.
    problems: what its target cannot do.
    ignored: what means nothing to its target, by place.
    notes: what was translated or assumed.
    """

    target: str | None = None
    findings: tuple[Finding, ...] = ()
    problems: tuple[Problem, ...] = ()
    ignored: tuple[Finding, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def good(self) -> bool:
        return not self.findings and not self.problems


class Drafts:
    def __init__(self, targets: Targets, shared_root: Path) -> None:
        self._targets = targets
        self._shared_root = shared_root

    async def judge(self, text: bytes, key: Key | None = None) -> Judgement:
        """Judge a text as `/start` would; with a project, its files too.

        Raises:
            NotFound: there is no such project.
        """
        folder = await asyncio.to_thread(names.project_dir, self._shared_root, key) if key else None
        return await asyncio.to_thread(self._judge, text, folder)

    async def read(self, key: Key) -> tuple[bytes, Judgement]:
        """The project's file as it is now, and what is to be said of it.

        Raises:
            NotFound: there is no such project, or no such file.
            InvalidSpec: it cannot be read.
        """
        folder = await asyncio.to_thread(names.project_dir, self._shared_root, key)
        text = await asyncio.to_thread(yaml_file.read, folder / FILE, FILE)
        return text, await asyncio.to_thread(self._judge, text, folder)

    async def write(self, key: Key, text: bytes) -> Judgement:
        """Put the text where `/start` reads it, at once and whole; the project's folder is made where it is missing.

        It is taken also if the target cannot do it: others of TANGO's deployers read the same file.

        Raises:
            InvalidSpec: the text is not right, or names files that are not there; nothing is written.
            NotFound: the project's folder is a link to a place outside.
            CannotWrite
        """
        return await asyncio.to_thread(self._write, key, text)

    def _write(self, key: Key, text: bytes) -> Judgement:
        try:
            deployment_yaml.loads(text)  # a wrong one makes no folder
            folder = names.make_project_dir(self._shared_root, key)
            judgement = self._judge(text, folder)
            if judgement.findings:
                raise InvalidSpec.found(judgement.findings)
            _replace(folder / FILE, text)
        except OSError as error:
            raise CannotWrite(
                f"{FILE} of project {key} cannot be written: {error.strerror}",
                "Let the user that the manager runs as write to the shared disk, or put the file there yourself.",
            ) from error
        return judgement

    def _judge(self, text: bytes, folder: Path | None) -> Judgement:
        try:
            loaded = deployment_yaml.loads(text)
        except InvalidSpec as error:
            return Judgement(findings=error.findings)
        name = loaded.spec.deploy.type
        files = project_files.check(loaded, folder) if folder else ()
        try:
            target = self._targets.get(name)
            problems = tuple(target.check(loaded.spec))
            target.build_platform(loaded.spec)
        except DeployError as error:
            return Judgement(name, in_order(files), (error.problem,), (), loaded.notes)
        return Judgement(name, in_order(files), problems, ignored(loaded, target.ignores), loaded.notes)


def ignored(loaded: LoadedSpec, ignores: tuple[str, ...]) -> tuple[Finding, ...]:
    """What the file says that means nothing to its target, each section or value once. Pure.

    Args:
        ignores: as `Target.ignores`.
    """
    target = loaded.spec.deploy.type
    found = []
    for path in ignores:
        if path in loaded.origins:
            file, line, column = loaded.origins[path].rsplit(":", 2)
            found.append(Finding(file, int(line), int(column), path, f"means nothing to {target}"))
    return in_order(found)


def _replace(file: Path, text: bytes) -> None:
    """Whoever reads it sees the old text or the new one. Owner and mode stay those of the old file, where it may be."""
    descriptor, name = tempfile.mkstemp(prefix=".deployment-", dir=file.parent)
    growing = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as opened:
            opened.write(text)
            opened.flush()
            os.fsync(opened.fileno())
        growing.chmod(file.stat().st_mode & 0o777 if file.exists() else 0o644)
        growing.replace(file)
    except BaseException:
        growing.unlink(missing_ok=True)
        raise
