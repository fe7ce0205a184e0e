"""How a revision of a service comes to run: the promises that every runtime keeps."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

ProbeKind = Literal["http_get", "tcp_socket", "grpc"]


class ImageMissing(Exception):
    """The registry has no such image."""


class ImageDenied(Exception):
    """The registry does not let us read the image."""


class CannotRun(Exception):
    """The image cannot be run by this runtime; the words say why, for whoever must mend it."""


@dataclass(frozen=True, slots=True)
class Mount:
    """`path` is the container's; `source` a folder of this machine."""

    path: str
    source: Path
    read_only: bool = False


@dataclass(frozen=True, slots=True)
class Launch:
    """All that a start depends on. `revision` is a full name; `port` what the container is told as PORT."""

    revision: str
    image: str
    port: int
    command: tuple[str, ...] = ()
    args: tuple[str, ...] = ()
    env: tuple[tuple[str, str], ...] = ()
    working_dir: str = ""
    mounts: tuple[Mount, ...] = ()


@dataclass(frozen=True, slots=True)
class StartupProbe:
    """Seconds. https://cloud.google.com/run/docs/configuring/healthchecks"""

    kind: ProbeKind = "tcp_socket"
    path: str = "/"
    headers: tuple[tuple[str, str], ...] = ()
    initial_delay: float = 0.0
    period: float = 240.0
    timeout: float = 240.0
    threshold: int = 1
    default: bool = True
    """Whether nobody asked for it: then Google words its failure differently."""


class Instance(Protocol):
    """One running container."""

    @property
    def address(self) -> tuple[str, int]:
        """Where it is to be reached from this machine; nobody may listen there."""
        ...

    @property
    def status(self) -> int | None:
        """Its exit status; None while it runs."""
        ...

    async def stop(self, grace: float = 10.0) -> None:
        """SIGTERM, `grace` seconds, SIGKILL; it and all its children are dead when this returns.

        https://cloud.google.com/run/docs/container-contract#instance-shutdown
        """
        ...


class Runtime(Protocol):
    async def start(self, launch: Launch) -> Instance:
        """Fetch the image and start it; it need not listen yet.

        Raises:
            ImageMissing, ImageDenied, CannotRun
        """
        ...

    async def sweep(self) -> None:
        """Kill what a predecessor of ours left running. Called once, before anything is started."""
        ...

    async def close(self) -> None:
        """Nothing will be started any more, and all that was is stopped."""
        ...
