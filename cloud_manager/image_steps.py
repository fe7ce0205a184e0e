"""The steps that lead to a project's image: ask for the build, look at it, leave it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any

from cloud_manager import decide, story
from cloud_manager.builder import Builder
from cloud_manager.claim import Claim
from cloud_manager.deployment import Key, Phase
from cloud_manager.errors import BuilderUnavailable, DeployError
from image_builder.contract import BuildRequest, BuildStatus

log = logging.getLogger(__name__)

_NO_URI: dict[str, Any] = {"image_uri": None, "resolved_uri": None}


class ImageSteps:
    def __init__(self, builder: Builder) -> None:
        self._builder = builder
        self.progress: dict[Key, BuildStatus] = {}
        """The build last seen of each project that is on its way."""

    async def ask(self, claim: Claim, request: BuildRequest) -> None:
        """Ask for the build. Not to be broken off half-way: a build that nobody has noted would run for nobody."""
        if claim.row.facts.asking != request:
            await claim.save(asking=request)
        await _to_the_end(self._ask_and_note(claim, request))

    async def recall(self, claim: Claim, request: BuildRequest) -> None:
        """Learn the id of a build that an older wish asked for, so that it can be left."""
        await _to_the_end(self._recall_and_note(claim, request))

    async def poll(self, claim: Claim, build_id: str) -> None:
        await self._note(claim, build_id, await self._builder.status(build_id), before=build_id)

    async def let_go(self, claim: Claim) -> None:
        """Leave the build that is noted, if any. The caller notes that it is gone."""
        build_id = claim.row.facts.build_id
        if build_id is None:
            return
        try:
            await self._builder.release(build_id, str(claim.row.key))
        except DeployError as error:
            if error.problem.retryable:
                raise
            log.info("%s: build %s has nothing to leave: %s", claim.row.key, build_id, error)

    async def keep(self, claim: Claim, digests: tuple[str, ...]) -> None:
        """A builder that cannot do so (of an older release) goes by what was used last."""
        try:
            await self._builder.keep(str(claim.row.key), digests)
        except DeployError as error:
            if error.problem.retryable:
                raise
            log.warning("%s: the builder does not keep its images: %s", claim.row.key, error)
        await claim.save(keep=digests, kept=digests)

    async def _ask_and_note(self, claim: Claim, request: BuildRequest) -> None:
        try:
            status = await self._builder.submit(request)
        except DeployError as error:
            if not error.problem.retryable:  # Refused: no build came of it, and the one before serves no wish.
                await self.let_go(claim)
                await claim.save(asking=None, build_id=None)
            raise
        before = claim.row.facts.build_id
        if before != status.id:
            await self.let_go(claim)
        await self._note(claim, status.id, status, before=before)

    async def _recall_and_note(self, claim: Claim, request: BuildRequest) -> None:
        try:
            status = await self._builder.submit(request)
        except DeployError as error:
            if error.problem.retryable:
                raise
            await claim.save(asking=None)  # Refused: no such build ever began.
            return
        if claim.row.facts.build_id != status.id:
            await self.let_go(claim)
        await claim.save(asking=None, build_id=status.id)

    async def _note(self, claim: Claim, build_id: str, status: BuildStatus | None, *, before: str | None) -> None:
        """Store what was seen of the build. before: the build that was noted until now."""
        if status is not None:
            self.progress[claim.row.key] = status
        asked: dict[str, Any] = {"build_id": build_id, "stage": "asked", "asking": None}
        match decide.after_build(build_id, status):
            case decide.Building():
                await _note_building(claim, asked, same=before == build_id)
            case decide.Built(image):
                built_now = claim.row.phase is Phase.BUILDING
                news = built_now or image != claim.row.facts.image
                events = [story.image_ready(image, status, built_now=built_now)] if news else []
                built = asked | {"stage": "built", "image": image, **_NO_URI, "problem": None}
                await claim.save(*events, tries=0, **built)
            case decide.AskAgain(problem):
                await claim.retry(problem, **asked | {"stage": "new"})
            case decide.Fail(problem):
                await claim.fail(problem, **asked)


async def _note_building(claim: Claim, asked: dict[str, Any], *, same: bool) -> None:
    """Say that it builds. While a service stands, the build it came from is only compared: the word stays."""
    phase, build_id, problem = claim.row.phase, asked["build_id"], claim.row.facts.problem
    now = phase if same and phase in (Phase.RUNNING, Phase.PREPARING) else Phase.BUILDING
    facts, tries = asked | {"problem": None}, claim.row.tries
    if problem is not None and problem.code == BuilderUnavailable.code:  # It answers: its next absence is news again.
        facts["told"], tries = tuple(about for about in claim.row.facts.told if about != problem.cause), 0
    events = () if same and now is phase else (story.building(build_id),)
    await claim.save(*events, once=f"build {build_id}", phase=now, tries=tries, delay=claim.soon(), **facts)


async def _to_the_end(steps: Coroutine[Any, Any, None]) -> None:
    """Run a few calls that belong together to their end, even if cancelled meanwhile; then be cancelled."""
    task = asyncio.ensure_future(steps)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        while not task.done():
            try:
                await asyncio.wait({task})
            except asyncio.CancelledError:
                continue  # Asked again to stop: the calls have time limits of their own.
        if not task.cancelled() and task.exception() is not None:
            log.info("while being cancelled: %s", task.exception())
        raise
