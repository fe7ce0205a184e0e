"""How large an image will be, before it is built: what the index says of its packages."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from image_builder.contract import BuildRequest, Requirement
from image_builder.errors import ResolveFailed
from image_builder.local_index import Hashed
from image_builder.lock import Lock, PinnedWheel
from image_builder.plan import check_requirement
from image_builder.resolve import Wishes, newest_wheels
from image_builder.workshop import Workshop

_WITHOUT_WHEEL = ("source_only", "no_matching_wheel")


@dataclass(frozen=True, slots=True)
class Share:
    """What a package brings. size: compressed bytes, None where nothing tells; is_here: it need not be fetched."""

    name: str
    version: str
    size: int | None
    is_here: bool


@dataclass(frozen=True, slots=True)
class Estimate:
    """shares: the largest first. The base image and the program come on top."""

    shares: tuple[Share, ...]

    @property
    def size(self) -> int:
        return sum(share.size or 0 for share in self.shares)

    @property
    def here(self) -> int:
        return sum(share.size or 0 for share in self.shares if share.is_here)

    @property
    def unknown(self) -> int:
        """How many packages are not counted."""
        return sum(share.size is None for share in self.shares)


class Estimator:
    """A few at a time, each within a time limit: people type while it works.

    Only wheels are looked at, and only those of the host's indexes: a name that somebody types has nothing of it run on
    this machine, and an address nothing fetched from it.
    """

    def __init__(self, workshop: Workshop, *, at_once: int = 2, seconds: float = 20.0) -> None:
        self._workshop = workshop
        self._slots = asyncio.Semaphore(at_once)
        self._seconds = seconds

    async def estimate(self, request: BuildRequest) -> Estimate:
        """Raises ResolveFailed, BadBuildRequest, TimeoutError."""
        async with asyncio.timeout(self._seconds), self._slots:
            shares = await self._shares(request)
        return Estimate(tuple(sorted(shares, key=lambda share: (-(share.size or 0), share.name))))

    async def _shares(self, request: BuildRequest) -> list[Share]:
        named = [row for row in request.requirements if not check_requirement(row).url]
        try:
            lock = await self._lock(request, named)
        except ResolveFailed as error:
            if error.problem.code not in _WITHOUT_WHEEL:
                raise
            named = [row for row in named if await self._comes_as_wheels(request, row)]
            lock = await self._lock(request, named)
        others = [_unknown(row) for row in request.requirements if row not in named]
        return [*others, *map(self._share, lock.wheels)]

    async def _lock(self, request: BuildRequest, rows: Sequence[Requirement]) -> Lock:
        hashed = Hashed(self._workshop.hashes, self._workshop.folder / "indexes", self._workshop.leases.use)
        wishes = Wishes(request.model_copy(update={"requirements": tuple(rows)}), hashed=hashed)
        return await newest_wheels(wishes, await self._workshop.resolver_environ())

    async def _comes_as_wheels(self, request: BuildRequest, row: Requirement) -> bool:
        """With all that it needs."""
        try:
            await self._lock(request, [row])
        except ResolveFailed as error:
            if error.problem.code not in _WITHOUT_WHEEL:
                raise
            return False
        return True

    def _share(self, wheel: PinnedWheel) -> Share:
        lies_here = self._workshop.wheels.size(wheel)
        size = wheel.size or lies_here or self._workshop.index.wheel_size(wheel.sha256)
        return Share(wheel.name, wheel.version, size, lies_here is not None)


def _unknown(row: Requirement) -> Share:
    return Share(check_requirement(row).name, "", None, False)
