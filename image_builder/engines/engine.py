"""What needs a real RUN: the promises of a build engine, and what it is told."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol, runtime_checkable

from image_builder.contract import Platform
from image_builder.engines.apt import SystemPackage
from image_builder.engines.context import Context
from image_builder.errors import BuildError
from image_builder.layers.index import Layer
from image_builder.oci.base import BaseImage

Log = Callable[[str], None]
Bring = Callable[[], Awaitable[None]]
Network = Literal["host", "bridge"]

RUN_LABEL = "io.tango.cloud-deploy.build"
"""On everything that is made in an engine; its value is the id of the run."""


@dataclass(frozen=True, slots=True)
class Built:
    """An image as an engine made it; its layers are in the layout. reference: where a registry has it, too."""

    config: bytes
    layers: tuple[Layer, ...]
    reference: str | None = None


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the host lends a command for as long as it runs. ca: the host's bundle of certificates, a file."""

    environ: Mapping[str, str]
    network: Network = "bridge"
    ca: Path | None = None


class Engine(Protocol):
    """A program that runs commands in an image.

    Every call may be cancelled: when CancelledError comes out, what ran is dead, and what was made in the engine
    (containers, images) is gone. What a builder leaves that was killed, `sweep` takes away.
    """

    @property
    def name(self) -> str: ...

    async def available(self) -> str | None:
        """None if it can be used, else the reason in words. Quick, and asked each time."""
        ...

    async def with_packages(self, base: BaseImage, bring: Bring, packages: Sequence[SystemPackage], log: Log) -> Layer:
        """The one layer that apt-get puts on `base`, in the layout.

        bring: awaited before the bytes of the base's layers are read from the layout; not at all where the engine
        has them.

        Raises:
            BuildError: `apt_package_not_found` and the other codes of `apt.failure`; `engine_failed`.
        """
        ...

    async def build_dockerfile(self, context: Context, log: Log) -> Built:
        """The image of the context's `Dockerfile`, whole; each line of the build is told to `log`.

        Raises:
            BuildError: `dockerfile_failed`, with the engine's reason; `engine_failed`.
        """
        ...

    async def sweep(self) -> None:
        """Take away what dead builders of this folder left in the engine. Nothing happens where there is none."""
        ...


@runtime_checkable
class KeepsImages(Protocol):
    """An engine that may have a base image which no registry gives."""

    async def base(
        self, named: str, platform: Platform, known: BaseImage | None, *, made_here: bool
    ) -> BaseImage | None:
        """The image of that name, its layers in the layout; None if it is not there, or the engine is not.

        known: what it was when it was last taken from here. made_here: not what came from a registry.

        Raises:
            BuildError: `engine_failed`. DiskFull
        """
        ...


def engine_failed(engine: str, reason: str) -> BuildError:
    """It is the engine that is at fault, not the project."""
    return BuildError(
        f"the build engine {engine} failed: {_one_line(reason)}",
        f"See to {engine} on the builder's machine, then start it again.",
        code="engine_failed",
    )


def network_failed(engine: str, reason: str, network: Network) -> BuildError | None:
    """The error if what an engine says is that it has no bridge for a container; else None."""
    if network != "bridge" or not re.search(
        r"\bnetwork bridge\b|\bbridge docker0\b|\bnetwork .{0,80}not found", reason
    ):
        return None
    return BuildError(
        f"{engine} cannot give a container a network of its own (BUILD_NETWORK=bridge): {_one_line(reason)}",
        f"Set BUILD_NETWORK=host where the image builder runs, or mend the bridge of {engine}.",
        code="engine_network",
    )


def dockerfile_failed(engine: str, reason: str, tail: Iterable[str]) -> BuildError:
    """tail: the last lines of the build; the last one mostly holds what the failed command said."""
    last = list(tail)[-1:]
    return BuildError(
        f"{engine} cannot build the Dockerfile: {_one_line('; '.join([reason, *last]))}",
        "Correct the Dockerfile; the log of the build has the whole story.",
        code="dockerfile_failed",
    )


def _one_line(reason: str) -> str:
    return " ".join(reason.split())[:600] or "it said nothing"
