"""What the conformance suite needs of the world around a target. A new target adds one harness, nothing else."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Literal, Protocol

import httpx

from cloud_manager.deployment import Key, revision_of
from cloud_manager.deployment_spec import Deploy, DeploymentSpec
from cloud_manager.targets.target import Observation, Target, Wanted

Behaviour = Literal["serve", "exit"]
"""`serve`: answers every GET with its word; `exit`: ends at once with code 3 after a last word in its log."""


class Harness(Protocol):
    name: str

    def target(self) -> Target:
        """A new object over the same world: this process after a restart."""
        ...

    def image(self, word: str, behaviour: Behaviour = "serve") -> dict[str, Any]:
        """`image` or `image_uri` of a `Wanted`, of a program that answers `word`."""
        ...

    async def ask(self, url: str) -> str | None:
        """The answer of a GET over a new connection, or None."""
        ...

    async def instance(self, key: Key) -> str | None:
        """Identity of what serves now: another one after every start."""
        ...

    async def kill(self, key: Key) -> None:
        """The service dies, behind the target's back."""
        ...

    async def leftovers(self, key: Key) -> list[str]:
        """Processes, ports and files (but logs) that are there on behalf of a project."""
        ...

    async def foreign(self) -> Callable[[], Awaitable[bool]]:
        """Put something into the world that looks much like ours but is not; tells whether it is untouched."""
        ...

    async def aclose(self) -> None: ...


async def answer_of(url: str) -> str | None:
    """What a service says to anybody; None if it does not answer, or not with 200."""
    try:
        async with httpx.AsyncClient(timeout=10, trust_env=False) as client:
            answer = await client.get(url)
    except httpx.HTTPError:
        return None
    return answer.text if answer.status_code == 200 else None


def wanted(harness: Harness, key: Key, word: str, behaviour: Behaviour = "serve", **deploy: Any) -> Wanted:
    """A revision whose service answers `word`."""
    deploy.setdefault("health", {"startup_seconds": 60})
    spec = DeploymentSpec(deploy=Deploy.model_validate({"type": harness.name, **deploy}))
    image = harness.image(word, behaviour)
    identity = image["image"].digest if "image" in image else image["image_uri"]
    return Wanted(key, spec, revision_of(spec, identity), **image)


async def until(condition: Callable[[], Awaitable[Any]], what: str, *, seconds: float = 60.0) -> Any:
    """The first true value of a condition; fails with `what` when time is up."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + seconds
    while not (value := await condition()):
        if loop.time() > deadline:
            raise AssertionError(f"not within {seconds:g} s: {what}")
        await asyncio.sleep(0.05)
    return value


async def observed(target: Target, key: Key, state: str, revision: str | None = None) -> Observation:
    """Wait for a state of a revision."""
    seen: list[Observation] = []

    async def there() -> Observation | None:
        seen[:] = [await target.observe(key)]
        right = seen[0].state == state and revision in (None, seen[0].revision)
        return seen[0] if right else None

    try:
        found: Observation = await until(there, f"{key} is {state}")
    except AssertionError as error:
        raise AssertionError(f"{error}; last seen: {seen}") from None
    return found
