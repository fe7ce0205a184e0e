"""What the manager asks of the image builder. `builder_client.py` does it over HTTP."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Protocol

from image_builder.contract import BuildEvent, BuildRequest, BuildStatus, ImageReference


class Builder(Protocol):
    """Errors: `BuilderUnavailable` (retryable) when it does not answer; else a `DeployError` with its own words."""

    async def submit(self, request: BuildRequest) -> BuildStatus:
        """Ask for a build. Repeating the same request over the same files joins the build there is."""
        ...

    async def status(self, build_id: str) -> BuildStatus | None:
        """None for a build that the builder does not know."""
        ...

    async def release(self, build_id: str, owner: str) -> None:
        """Leave a build; the last owner to leave cancels it, and what ran is dead when this returns."""
        ...

    async def keep(self, owner: str, digests: Sequence[str]) -> None:
        """Keep these images for a project, whatever else is cleared away, instead of those kept for it before."""
        ...

    def events(self, build_id: str, *, after: int = 0) -> AsyncIterator[BuildEvent]:
        """The build's events from sequence `after` + 1 on, until it is done."""
        ...

    def blob(self, image: ImageReference, digest: str) -> AsyncIterator[bytes]:
        """The bytes of a manifest, configuration or layer of `image`, verified against `digest` at the end."""
        ...

    async def aclose(self) -> None: ...
