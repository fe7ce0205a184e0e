"""What a target is: a place where an image becomes a service, and the promises it makes to the controller."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

from cloud_manager.deployment import Key
from cloud_manager.deployment_spec import DeploymentSpec
from image_builder.contract import ImageReference, Platform, Problem

State = Literal["absent", "pending", "ready", "failed", "removing"]


@dataclass(frozen=True, slots=True)
class Wanted:
    """One revision of one project, ready to be run. Exactly one of `image` and `image_uri` is set.

    generation: counts the wishes of the project; what `image_uri` means is asked once in each. 0: not known.
    """

    key: Key
    spec: DeploymentSpec
    revision: str
    image: ImageReference | None = None
    image_uri: str | None = None
    generation: int = 0


@dataclass(frozen=True, slots=True)
class Observation:
    """What is really there, seen just now.

    state: `absent` nothing of this project exists; `pending` the newest revision is on its way (or restarting);
    `ready` it answers its health check; `failed` it will not come up by itself; `removing` deletion is under way.
    revision: of the newest thing that exists, as `Wanted.revision` said. None if absent or unknown.
    url: where clients reach the project now, also while an older revision serves.
    problem: set when `failed`, and when `pending` is worth a word.
    drift: what somebody has changed by other means than this manager, each as words about the service, e.g.
    `its environment was changed`. The revision is None then: what is there is not what was asked for.
    """

    state: State
    revision: str | None = None
    url: str | None = None
    problem: Problem | None = None
    detail: str = ""
    drift: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class BuildPlatform:
    """What an image must fit: platform, python minor version, and the base image if the target dictates one.

    repository: where images must be published for the target to reach them, e.g.
    `us-central1-docker.pkg.dev/project/cloud-deploy`, unless the file says where. None: it needs no registry.
    """

    platform: Platform
    python: str
    base_image: str | None = None
    repository: str | None = None


class Target(Protocol):
    """A place to run services.

    Promises, held by `tests/conformance`:
    - `observe` changes nothing, never blocks for long, and is right after a restart of this process.
    - `apply` may be repeated and may be cancelled at any await: what it left is found by `observe` and mended or
      removed by the next `apply` or `remove`. With the revision already there it changes nothing.
    - While a new revision comes up, the old one goes on serving; if the new one fails, the old one stays.
    - `remove` of what is not there is no error. After it, `observe` tells `removing` or `absent`, and `absent` only
      when nothing is left: no process, no port, no file but the logs.
    - Only what carries our ownership labels for this very key is touched.
    - Errors are `DeployError`s; `retryable` says whether the same call may succeed later.
    """

    name: str
    ignores: tuple[str, ...]
    """Paths of deployment.yaml that mean nothing here, e.g. `deploy.region`. A file may say them all the same: it is
    one file for all targets."""

    def check(self, spec: DeploymentSpec) -> list[Problem]:
        """What of `spec` this target cannot do. Pure; asked before anything is built."""
        ...

    def build_platform(self, spec: DeploymentSpec) -> BuildPlatform:
        """What the image must fit to run here. Pure.

        Raises:
            DeployError: the wish cannot be met here, e.g. a python that this machine lacks.
        """
        ...

    async def observe(self, key: Key) -> Observation: ...

    async def apply(self, wanted: Wanted) -> None:
        """Begin to make `wanted` so; return when the rest goes on by itself (then `observe` tells)."""
        ...

    async def remove(self, key: Key) -> None: ...

    def logs(self, key: Key, *, tail: int, follow: bool) -> AsyncIterator[str]:
        """The service's log lines without their newline: the last `tail`, then, if `follow`, new ones for ever."""
        ...

    async def aclose(self) -> None:
        """Let go of connections. Services go on running."""
        ...


@runtime_checkable
class Resolver(Protocol):
    """A target that can tell which image a tag was when its service was started."""

    async def resolved(self, key: Key, image_uri: str) -> str | None:
        """The image that runs by its digest, e.g. `registry/hello@sha256:…`; None where nobody knows."""
        ...


@runtime_checkable
class SecretReader(Protocol):
    """A target that reads the values of secrets itself, when a service is started."""

    async def secrets_mark(self, spec: DeploymentSpec, salt: str) -> str:
        """Changes with any value that `spec` names; nobody learns one from it who lacks the salt (hex digits).

        Raises:
            TargetError: `secret_missing`.
        """
        ...
