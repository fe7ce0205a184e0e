"""A Builder in memory: the same inputs give the same build, owners share it, the last to leave cancels it.

Two `FakeBuilder`s over one `Workshop` are one builder before and after a restart.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field

from cloud_manager.errors import BuilderUnavailable, DeployError
from image_builder.contract import BuildEvent, BuildRequest, BuildState, BuildStatus, ImageReference, Problem
from tests.fakes.clock import ManualClock


@dataclass
class Workshop:
    """What the builder acts on.

    files: source folder -> any text that stands for the bytes in it; changed text, changed build.
    looks: how many looks at a new build (`status`) still say that it runs; 0: `submit` answers with the image.
    broken: problems with which the next builds end, first in first out.
    refuse: errors raised by the next `submit`s, first in first out.
    away: the builder does not answer.
    hold: an event that every `submit` waits for, once it has begun the build.
    lost: builds whose images were cleared away; asked for again, they are built again.
    """

    clock: ManualClock = field(default_factory=ManualClock)
    files: dict[str, str] = field(default_factory=dict)
    looks: int = 1
    broken: list[Problem] = field(default_factory=list)
    refuse: list[DeployError] = field(default_factory=list)
    away: bool = False
    hold: asyncio.Event | None = None
    builds: dict[str, BuildStatus] = field(default_factory=dict)
    looks_left: dict[str, int] = field(default_factory=dict)
    calls: list[tuple[str, str]] = field(default_factory=list)
    made: int = 0
    lost: set[str] = field(default_factory=set)
    kept: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """Owner -> digests of images that stay, whatever is cleared away."""

    def lose_images(self) -> None:
        """The disk is gone."""
        self.lost |= {build.id for build in self.builds.values() if build.image}

    def clear_images(self) -> None:
        """`cloud-deploy gc` under the smallest bound: only what is kept for somebody stays."""
        kept = {digest for digests in self.kept.values() for digest in digests}
        self.lost |= {build.id for build in self.builds.values() if build.image and build.image.digest not in kept}

    def pull(self, image: ImageReference) -> None:
        """What a target does with an image. Raises as `BuilderClient.blob` does when it is not there any more."""
        if image.repository.removeprefix("builds/") in self.lost:
            raise DeployError("the image builder does not have the image any more", "Start again", code="blob_unknown")

    def count(self, call: str) -> int:
        return sum(1 for name, _ in self.calls if name == call)

    def in_flight(self) -> list[str]:
        return [build.id for build in self.builds.values() if not build.state.done]

    def cancel(self, build_id: str) -> None:
        """Someone else cancels it."""
        self._end(build_id, BuildState.CANCELLED)

    def forget(self, build_id: str) -> None:
        del self.builds[build_id]

    def run(self) -> None:
        """Every build that runs comes to its end."""
        for build_id in self.in_flight():
            self.finish(build_id)

    def finish(self, build_id: str) -> None:
        if self.broken:
            self._end(build_id, BuildState.FAILED, problem=self.broken.pop(0))
            return
        digest = f"sha256:{hashlib.sha256(build_id.encode()).hexdigest()}"
        image = ImageReference(repository=f"builds/{build_id}", digest=digest, size=1_500_000)
        self.made += 1
        self._end(build_id, BuildState.SUCCEEDED, image=image)

    def _end(self, build_id: str, state: BuildState, **rest: Problem | ImageReference) -> None:
        change = {"state": state, "step": "done", "finished": self.clock.now(), **rest}
        self.builds[build_id] = self.builds[build_id].model_copy(update=change)


class FakeBuilder:
    def __init__(self, workshop: Workshop | None = None) -> None:
        self.workshop = workshop or Workshop()

    async def submit(self, request: BuildRequest) -> BuildStatus:
        shop = self.workshop
        build_id = self._id(request)
        await self._enter("submit", build_id)
        if shop.refuse:
            raise shop.refuse.pop(0)
        self._join(build_id, request)
        for other in shop.in_flight():
            if other != build_id:
                self._leave(other, request.owner)
        if shop.hold is not None:
            await shop.hold.wait()
        return shop.builds[build_id]

    def _join(self, build_id: str, request: BuildRequest) -> None:
        shop = self.workshop
        build = shop.builds.get(build_id)
        if build is None or build.state in (BuildState.FAILED, BuildState.CANCELLED) or build_id in shop.lost:
            shop.lost.discard(build_id)
            build = BuildStatus(id=build_id, state=BuildState.RUNNING, request=request, created=shop.clock.now())
            shop.looks_left[build_id] = shop.looks
        owners = tuple(dict.fromkeys([*build.owners, request.owner]))
        shop.builds[build_id] = build.model_copy(update={"owners": owners})
        if shop.looks_left[build_id] <= 0 and not build.state.done:
            shop.finish(build_id)

    async def status(self, build_id: str) -> BuildStatus | None:
        shop = self.workshop
        await self._enter("status", build_id)
        build = shop.builds.get(build_id)
        if build is not None and not build.state.done:
            shop.looks_left[build_id] -= 1
            if shop.looks_left[build_id] < 0:
                shop.finish(build_id)
        return shop.builds.get(build_id)

    async def release(self, build_id: str, owner: str) -> None:
        await self._enter("release", build_id)
        self._leave(build_id, owner)

    def _leave(self, build_id: str, owner: str) -> None:
        shop = self.workshop
        build = shop.builds.get(build_id)
        if build is None:
            return
        owners = tuple(name for name in build.owners if name != owner)
        shop.builds[build_id] = build.model_copy(update={"owners": owners})
        if not owners and not build.state.done:
            shop.cancel(build_id)

    async def keep(self, owner: str, digests: Sequence[str]) -> None:
        await self._enter("keep", owner)
        self.workshop.kept[owner] = tuple(digests)

    async def events(self, build_id: str, *, after: int = 0) -> AsyncIterator[BuildEvent]:
        build = self.workshop.builds[build_id]
        if after == 0:
            yield BuildEvent(sequence=1, time=build.created, kind="step", message="layers")

    async def blob(self, image: ImageReference, digest: str) -> AsyncIterator[bytes]:
        yield f"{image.digest} {digest}".encode()

    async def aclose(self) -> None:
        pass

    def _id(self, request: BuildRequest) -> str:
        inputs = request.model_dump_json(exclude={"owner"}) + self.workshop.files.get(request.source, "")
        return hashlib.sha256(inputs.encode()).hexdigest()[:32]

    async def _enter(self, call: str, build_id: str) -> None:
        self.workshop.calls.append((call, build_id))
        await asyncio.sleep(0)
        if self.workshop.away:
            raise BuilderUnavailable("the image builder at http://builder does not answer", "Check that it runs")
