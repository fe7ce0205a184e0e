"""One step of one project: see what there is, then do the next thing, until the world matches the wish.

The story reads from top to bottom: wanted (the image, then the service, then what is left over), not wanted. What to
do is decided in `decide.py`, done in `image_steps.py` and `service_steps.py`, written through `claim.py`. Each step may
be repeated and may be broken off at any await: the next one begins by looking.
"""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import Any, Protocol

from cloud_manager import decide, service_steps, story
from cloud_manager.build_request import build_request
from cloud_manager.builder import Builder
from cloud_manager.claim import Claim, Desk, NewerWish
from cloud_manager.deployment import Deployment, Key, Phase, Pinned, Want
from cloud_manager.deployment_spec import DeploymentSpec
from cloud_manager.errors import DeployError, LostOwnership, PlaceUnavailable
from cloud_manager.image_steps import ImageSteps
from cloud_manager.project_files import program_of
from cloud_manager.targets.target import Target
from image_builder.contract import BuildRequest, BuildStatus, Problem

log = logging.getLogger(__name__)

FAR = 10 * 365 * 86400.0
"""Seconds. A stopped project is looked at again when somebody wishes something of it."""
LATE = 60.0
"""Seconds after which what was sent to a target has arrived, or never will."""

_FORGOTTEN: dict[str, Any] = {
    "image": None,
    "image_uri": None,
    "resolved_uri": None,
    "revision": None,
    "url": None,
    "problem": None,
    "detail": "",
    "drift": (),
    "stage": "new",
}
"""What is true of no stopped project."""

_BUILDER_AWAY_TRIES = 2
"""A project is stopped without the builder's word after so many tries: its service is gone, the rest follows."""


class Targets(Protocol):
    """The targets by `deploy.type`; `targets/catalog.py` makes them when they are first used."""

    def get(self, type: str, /) -> Target:
        """Raises: DeployError, code `target_unavailable`, naming what is available."""
        ...


class Reconciler:
    """Takes one step of one project at a time. Holds nothing that a restart would lose, but the progress of builds."""

    def __init__(self, desk: Desk, builder: Builder, targets: Targets, shared_root: Path) -> None:
        self._desk = desk
        self._images = ImageSteps(builder)
        self._targets = targets
        self._shared_root = shared_root
        self._claims: dict[Key, Claim] = {}

    def build_status(self, key: Key) -> BuildStatus | None:
        return self._images.progress.get(key)

    def generation(self, key: Key) -> int | None:
        """Of the wish that the step in flight serves; None if none is, or if it has not read its row yet."""
        claim = self._claims.get(key)
        return None if claim is None else claim.row.facts.generation

    async def reconcile(self, key: Key) -> Deployment | None:
        """One claim, one step. The row as it then is; None if another manager has the project.

        Raises:
            Unavailable: the database does not answer; nothing is lost, the step is taken again.
        """
        async with self._desk.store.own(key) as row:
            if row is None:
                return None
            claim = self._claims[key] = Claim(row, self._desk)
            began, outcome = claim.now(), "cut"
            try:
                await self._step(claim)
                outcome = "done"
            except NewerWish:
                outcome = "overtaken"
                log.info("%s: a newer wish came", key)
            except LostOwnership:
                outcome = "lost"
                log.warning("%s: another manager has taken it over", key)
                return None
            finally:
                del self._claims[key]
                self._desk.watch.step(outcome, claim.now() - began, max(0.0, began - row.due))
        if claim.row.phase.at_rest:
            self._images.progress.pop(key, None)
        return claim.row

    async def _step(self, claim: Claim) -> None:
        try:
            if claim.row.want is Want.PRESENT:
                await self._make_present(claim)
            else:
                await self._make_absent(claim)
        except (NewerWish, LostOwnership):
            raise
        except DeployError as error:
            await self._stumbled(claim, error)
        except Exception as error:  # A defect in one step must not end the loop for all projects.
            log.exception("%s: an unexpected error", claim.row.key)
            await self._stumbled(claim, DeployError.of(_internal(error)))

    async def _stumbled(self, claim: Claim, error: DeployError) -> None:
        """Wait and try again, or fail."""
        row, problem = claim.row, error.problem
        gone = row.phase is Phase.STOPPING and not row.facts.placed_on
        if gone and problem.retryable and row.tries >= _BUILDER_AWAY_TRIES:
            await claim.save(story.stopped(row), phase=Phase.STOPPED, **_FORGOTTEN)
        phase = decide.phase_unseen(row) if isinstance(error, PlaceUnavailable) else None
        await claim.retry(problem, phase=phase)

    # --- wanted ---

    async def _make_present(self, claim: Claim) -> None:
        spec = _spec(claim.row)
        if claim.row.phase is Phase.FAILED:
            await self._look_at_failed(claim, spec)
            return
        target = self._targets.get(spec.deploy.type)
        request = await self._request(claim.row, spec, target)
        match decide.next_for_image(claim.row.facts, request, claim.row.pinned):
            case decide.Recall(noted):
                await self._images.recall(claim, noted)
            case decide.Ask(wanted):
                await self._images.ask(claim, wanted)
            case decide.Poll(build_id):
                await self._images.poll(claim, build_id)
            case decide.UsePrebuilt():
                await _use_prebuilt(claim, spec)
            case decide.UsePinned(pinned):
                await _use_pinned(claim, pinned)
            case None:
                await self._make_running(claim, spec, target)

    async def _request(self, row: Deployment, spec: DeploymentSpec, target: Target) -> BuildRequest | None:
        """What the builder is to be asked, if anything is. In a thread: the shared disk may be slow to answer."""
        if spec.prebuilt or row.pinned is not None or row.facts.stage in ("built", "applied"):
            return None
        project = self._shared_root / "common" / row.key.user_id / row.key.project_id
        program = await asyncio.to_thread(program_of, project, spec, self._shared_root)
        return build_request(row, spec, target.build_platform(spec), program)

    async def _make_running(self, claim: Claim, spec: DeploymentSpec, target: Target) -> None:
        await service_steps.mark_secrets(claim, spec, target)
        at_rest = await service_steps.place(claim, spec, target)
        if not at_rest:
            return
        match decide.next_leftover(claim.row.facts, target.name, pinned=claim.row.pinned is not None):
            case decide.Recall(noted):
                await self._images.recall(claim, noted)
            case decide.LetGo(build_id):
                await self._let_go(claim, build_id)
            case decide.Keep(digests):
                await self._images.keep(claim, digests)
            case decide.Look(other):
                await self._clear_other(claim, other)
            case None:
                await claim.save(tries=0, delay=claim.resync())

    async def _clear_other(self, claim: Claim, name: str) -> None:
        """What is left on a target of an older wish: it must go, but cannot make the present service `failed`."""
        try:
            await service_steps.clear(claim, self._targets.get(name))
        except LostOwnership:
            raise
        except DeployError as error:
            if error.problem.retryable:
                raise
            event = story.left_behind(name, error.problem)
            await claim.save(event, once=f"left {error.problem.cause}", delay=claim.resync())

    async def _look_at_failed(self, claim: Claim, spec: DeploymentSpec) -> None:
        """Nothing is applied by itself, but what has come up by itself is running."""
        if claim.row.facts.stage in ("built", "applied"):
            try:
                await service_steps.place(claim, spec, self._targets.get(spec.deploy.type))
                return
            except LostOwnership:
                raise
            except DeployError as error:
                log.warning("%s: cannot be looked at now: %s", claim.row.key, error)
        await claim.save(delay=claim.resync())

    # --- not wanted ---

    async def _make_absent(self, claim: Claim) -> None:
        match decide.next_to_clear(claim.row.facts, claim.row.tries):
            case decide.Recall(noted):
                await self._images.recall(claim, noted)
            case decide.LetGo(build_id):
                await self._let_go(claim, build_id)
            case decide.Keep(digests):
                await self._images.keep(claim, digests)
            case decide.Look(name):
                await service_steps.clear(claim, self._targets.get(name))
            case decide.Stopped() if claim.row.phase is Phase.STOPPED and claim.row.facts.left:
                await self._look_again(claim, claim.row.facts.left[0])
            case decide.Stopped():
                await _note_stopped(claim)

    async def _look_again(self, claim: Claim, name: str) -> None:
        """Nobody waits for it, and a stopped project does not fail."""
        try:
            await service_steps.look_again(claim, self._targets.get(name))
        except LostOwnership:
            raise
        except DeployError as error:
            log.warning("%s: cannot be looked at once more: %s", claim.row.key, error)
            await claim.save(delay=claim.resync(), left=claim.row.facts.left if error.problem.retryable else ())

    async def _let_go(self, claim: Claim, build_id: str) -> None:
        await self._images.let_go(claim)
        in_flight = claim.row.facts.stage == "asked"
        stage = "new" if in_flight else claim.row.facts.stage
        events = (story.build_left(build_id),) if in_flight else ()
        await claim.save(*events, build_id=None, stage=stage)


async def _use_prebuilt(claim: Claim, spec: DeploymentSpec) -> None:
    uri = str(spec.build.image_uri)
    events = () if claim.row.facts.image_uri == uri else (story.prebuilt(uri),)
    await claim.save(*events, stage="built", image=None, image_uri=uri, resolved_uri=None)


async def _use_pinned(claim: Claim, pinned: Pinned) -> None:
    event = story.brought_back(pinned)
    await claim.save(event, stage="built", image=pinned.image, image_uri=pinned.image_uri, resolved_uri=None)


async def _note_stopped(claim: Claim) -> None:
    if claim.row.phase is Phase.STOPPED:
        await claim.save(delay=FAR, tries=0, **_FORGOTTEN)
        return
    if claim.row.phase is Phase.FAILED:  # A removal that had been given up has come to its end after all.
        await claim.save(phase=Phase.STOPPING)
    delay = LATE if claim.row.facts.left else FAR
    await claim.save(story.stopped(claim.row), phase=Phase.STOPPED, delay=delay, tries=0, **_FORGOTTEN)


def _spec(row: Deployment) -> DeploymentSpec:
    if row.spec is None:
        raise RuntimeError(f"{row.key} is wanted without a specification")  # A defect of the store.
    return row.spec


def _internal(error: Exception) -> Problem:
    reason = next(iter(str(error).splitlines()), "")
    cause = f"an unexpected error: {type(error).__name__}{f': {reason}' if reason else ''}"
    fix = "This is a defect of Cloud Deploy: the manager's log has the details; please report it"
    return Problem(code="internal", cause=cause, fix=fix, retryable=True)
