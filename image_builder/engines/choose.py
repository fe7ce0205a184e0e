"""Which engine does what needs one."""

from __future__ import annotations

from collections.abc import Sequence

from image_builder.engines.engine import Engine
from image_builder.errors import BuildError


async def choose(engines: Sequence[Engine], asked: str | None) -> Engine:
    """The engine that was asked for, else the first that can be used.

    Raises:
        BuildError: code `no_engine`, with each engine's reason.
    """
    reasons = []
    for engine in engines:
        if asked is not None and engine.name != asked:
            continue
        reason = await engine.available()
        if reason is None:
            return engine
        reasons.append(reason)
    told = "; ".join(reasons) or f"{asked} is not one of {', '.join(engine.name for engine in engines)}"
    if asked is not None:
        raise BuildError(
            f"build.engine is {asked}, which cannot be used: {told}",
            f"Install or start {asked} where the image builder runs, or name another engine.",
            code="no_engine",
        )
    raise BuildError(
        f"system packages need docker or buildah: {told}",
        "Install one (apt-get install buildah), or remove custom_packages.apt.",
        code="no_engine",
    )
