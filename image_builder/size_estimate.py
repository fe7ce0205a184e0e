"""How large an image will be, before it is built: what the index says of its packages."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from image_builder.contract import BuildRequest
from image_builder.interpreters import here
from image_builder.local_index import Hashed
from image_builder.lock import PinnedWheel
from image_builder.resolve import Wishes, resolve
from image_builder.work import in_thread
from image_builder.workshop import Workshop


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
    """A few at a time, each within a time limit: people type while it works."""

    def __init__(self, workshop: Workshop, *, at_once: int = 2, seconds: float = 20.0) -> None:
        self._workshop = workshop
        self._slots = asyncio.Semaphore(at_once)
        self._seconds = seconds

    async def estimate(self, request: BuildRequest) -> Estimate:
        """Raises ResolveFailed, TimeoutError."""
        async with asyncio.timeout(self._seconds), self._slots:
            return Estimate(
                tuple(sorted(await self._shares(request), key=lambda share: (-(share.size or 0), share.name)))
            )

    async def _shares(self, request: BuildRequest) -> Sequence[Share]:
        workshop = self._workshop
        environ = await workshop.resolver_environ()
        lock = await resolve(await self._wishes(request), workshop.locks, environ, lambda _line: None)
        known = [self._share(wheel) for wheel in lock.wheels]
        return [*known, *(Share(source.name, source.version, None, False) for source in lock.sources)]

    def _share(self, wheel: PinnedWheel) -> Share:
        lies_here = self._workshop.wheels.size(wheel)
        size = wheel.size or lies_here or self._workshop.index.wheel_size(wheel.sha256)
        return Share(wheel.name, wheel.version, size, lies_here is not None)

    async def _wishes(self, request: BuildRequest) -> Wishes:
        """As a build has them, so that its lock serves both."""
        workshop = self._workshop
        hashed = Hashed(workshop.hashes, workshop.folder / "indexes", workshop.leases.use)
        found = None
        if request.platform == here():
            found = await in_thread(lambda _: workshop.interpreters.find(request.python))
        if found is None:
            return Wishes(request, hashed=hashed)
        return Wishes(request, buildable=True, hashed=hashed, interpreter=found.path)
