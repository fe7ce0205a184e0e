"""What a user may ask for. The answers come at once: what is slow is the controller's."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from pathlib import Path
from typing import Protocol

from cloud_manager import deployment_yaml, names, project_files
from cloud_manager.board import Board
from cloud_manager.clock import Clock
from cloud_manager.deployment import Key
from cloud_manager.deployment_spec import LoadedSpec
from cloud_manager.errors import InvalidSpec, NotFound
from cloud_manager.finding import Finding, summary
from cloud_manager.reconcile import Targets
from cloud_manager.revisions import chosen
from cloud_manager.store.protocol import Store
from image_builder.contract import Problem

FILE = "deployment.yaml"


class Waker(Protocol):
    """The controller, as far as it matters here."""

    def wake(self, key: Key) -> None: ...


class Deployments:
    def __init__(  # noqa: PLR0913, PLR0917 - the process is put together here
        self, store: Store, board: Board, controller: Waker, targets: Targets, clock: Clock, shared_root: Path
    ) -> None:
        self._store = store
        self._board = board
        self._controller = controller
        self._targets = targets
        self._clock = clock
        self._shared_root = shared_root

    async def start(self, key: Key) -> None:
        """The project shall run as its files say now. Again with the same files: nothing changes.

        Raises:
            NotFound: no such project, or it has no deployment.yaml.
            InvalidSpec: all that is wrong with its files, and all that its target cannot do.
            DeployError: code `target_unavailable`, or the target cannot meet the wish.
            Unavailable: the database does not answer.
        """
        loaded, findings = await asyncio.to_thread(self._read, key)
        target = self._targets.get(loaded.spec.deploy.type)
        _refuse(findings, target.check(loaded.spec))
        target.build_platform(loaded.spec)
        row = await self._store.want_present(key, loaded, now=self._clock.now())
        self._board.put([row])
        self._controller.wake(key)

    async def rollback(self, key: Key, to: str | None = None) -> None:
        """An earlier revision shall run, spec and image as they were; nothing of the project's files is read.

        Args:
            to: the revision, or its first letters; None: the last good one before the present.

        Raises:
            NotFound: the project was never started, or has no such revision.
            Conflict: there is nothing to go back to.
            DeployError: code `target_unavailable`, or the target cannot meet the wish any more.
            Unavailable: the database does not answer.
        """
        before = await self._store.get(key)
        if before is None:
            raise NotFound(f"project {key} was never started", "Start it first: what runs well is remembered")
        revision = chosen(before, await self._store.revisions(key), to)
        if revision.spec is not None:
            _refuse((), self._targets.get(revision.spec.deploy.type).check(revision.spec))
        row = await self._store.want_again(key, revision, now=self._clock.now())
        if row is not None:
            self._board.put([row])
            self._controller.wake(key)

    async def stop(self, key: Key) -> None:
        """Nothing of the project shall be left. Repeating it, or stopping what never was started, is harmless.

        Raises:
            NotFound: there is no such project.
            Unavailable: the database does not answer.
        """
        row = await self._store.want_absent(key, now=self._clock.now())
        if row is None:
            await asyncio.to_thread(names.project_dir, self._shared_root, key)
            return
        self._board.put([row])
        self._controller.wake(key)

    def _read(self, key: Key) -> tuple[LoadedSpec, tuple[Finding, ...]]:
        folder = names.project_dir(self._shared_root, key)
        loaded = deployment_yaml.load(folder / FILE)
        return loaded, project_files.check(loaded, folder)


def _refuse(findings: tuple[Finding, ...], problems: Iterable[Problem]) -> None:
    """Raise one error for everything that is wrong, if anything is."""
    refused = list(problems)
    if not refused and findings:
        raise InvalidSpec.found(findings)
    if refused:
        causes = [summary(findings)] * bool(findings) + [f"{FILE}: {problem.cause.rstrip('.')}" for problem in refused]
        fixes = dict.fromkeys(problem.fix.rstrip(".") for problem in refused)
        raise InvalidSpec("; ".join(causes), "; ".join(fixes))
