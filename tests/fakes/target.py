"""A Target in memory: keeps the promises of `targets/target.py`, and does on request what a real world does.

Two `FakeTarget`s over one `World` are one process before and after a restart.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

from cloud_manager.deployment import Key
from cloud_manager.deployment_spec import DeploymentSpec
from cloud_manager.errors import DeployError
from cloud_manager.targets.target import BuildPlatform, Observation, Wanted
from image_builder.contract import ImageReference, Problem

CRASHED = Problem(code="exited", cause="the program ended", fix="read the logs")


@dataclass
class Revision:
    wanted: Wanted
    instance: int
    """Grows with every start: the same number is the same process."""
    looks_left: int
    """Observations that still say `pending`."""
    problem: Problem | None = None

    @property
    def up(self) -> bool:
        return self.problem is None and self.looks_left <= 0


@dataclass
class World:
    """What the fake target acts on.

    pending_looks: how many observations say `pending` before a new revision is ready.
    removing_looks: how many observations say `removing` after a remove.
    broken: revision or image_uri -> the problem with which it fails.
    refuse: call (`observe`, `apply`, `remove`) -> errors raised by the next calls, first in first out.
    hold: call -> an event that the call waits for; a cancelled call leaves what it had done so far.
    problems: what `check` answers.
    pull: told of each image before its service is started; may raise, as the builder does.
    calls: every call as (`apply`, `7/42`, revision or "").
    """

    pending_looks: int = 0
    removing_looks: int = 0
    broken: dict[str, Problem] = field(default_factory=dict)
    refuse: dict[str, list[DeployError]] = field(default_factory=dict)
    hold: dict[str, asyncio.Event] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    pull: Callable[[ImageReference], object] = lambda _: None
    calls: list[tuple[str, str, str]] = field(default_factory=list)
    running: dict[Key, list[Revision]] = field(default_factory=dict)
    """Oldest first."""
    removing: dict[Key, int] = field(default_factory=dict)
    secrets: dict[str, str] = field(default_factory=dict)
    digests: dict[str, str] = field(default_factory=dict)
    """image_uri -> the same image by its digest, as a registry knows it."""
    changed: dict[Key, tuple[str, ...]] = field(default_factory=dict)
    log: dict[Key, list[str]] = field(default_factory=dict)
    wrote: asyncio.Condition = field(default_factory=asyncio.Condition)
    starts: int = 0

    def url(self, key: Key) -> str:
        return f"http://{key.user_id}.{key.project_id}.fake"

    def serving(self, key: Key) -> Revision | None:
        """The newest revision that answers."""
        return next((revision for revision in reversed(self.running.get(key, [])) if revision.up), None)

    def count(self, call: str) -> int:
        return sum(1 for name, _, _ in self.calls if name == call)

    def vanish(self, key: Key) -> None:
        """Someone deletes the service behind our back."""
        self.running.pop(key, None)

    def change(self, key: Key, *what: str) -> None:
        """Someone edits the service behind our back; it goes on answering."""
        self.changed[key] = what

    def crash(self, key: Key, problem: Problem = CRASHED) -> None:
        """The newest revision dies and will not come back by itself."""
        self.running[key][-1].problem = problem

    async def say(self, key: Key, line: str) -> None:
        self.log.setdefault(key, []).append(line)
        async with self.wrote:
            self.wrote.notify_all()


class FakeTarget:
    name = "fake"
    ignores: tuple[str, ...] = ("deploy.region",)

    def __init__(self, world: World | None = None, *, platform: BuildPlatform | None = None) -> None:
        self.world = world or World()
        self._platform = platform or BuildPlatform("linux/amd64", "3.11", "scratch")
        self.closed = False

    def check(self, spec: DeploymentSpec) -> list[Problem]:
        return list(self.world.problems)

    def build_platform(self, spec: DeploymentSpec) -> BuildPlatform:
        return self._platform

    async def observe(self, key: Key) -> Observation:
        await self._enter("observe", key)
        if key in self.world.removing:
            return self._removing(key)
        revisions = self.world.running.get(key)
        if not revisions:
            return Observation("absent")
        return self._observed(key, revisions[-1])

    def _removing(self, key: Key) -> Observation:
        self.world.removing[key] -= 1
        if self.world.removing[key] > 0:
            return Observation("removing")
        del self.world.removing[key]
        return Observation("absent")

    def _observed(self, key: Key, newest: Revision) -> Observation:
        newest.looks_left -= 1
        serving = self.world.serving(key)
        url = self.world.url(key) if serving else None
        revision = newest.wanted.revision
        if newest.problem:
            return Observation("failed", revision, url, newest.problem)
        if not newest.up:
            return Observation("pending", revision, url)
        self.world.running[key] = [newest]
        drift = self.world.changed.get(key, ())
        return Observation("ready", None if drift else revision, url, drift=drift)

    async def apply(self, wanted: Wanted) -> None:
        revisions = self.world.running.setdefault(wanted.key, [])
        newest = revisions[-1] if revisions else None
        if (
            newest is None
            or newest.wanted.revision != wanted.revision
            or newest.problem
            or wanted.key in self.world.changed
        ):
            self._start(wanted)
        await self._enter("apply", wanted.key, wanted.revision)
        await self.world.say(wanted.key, f"revision {wanted.revision}")

    def _start(self, wanted: Wanted) -> None:
        if self.world.refuse.get("apply"):
            return
        revisions = self.world.running[wanted.key]
        if wanted.image:
            self.world.pull(wanted.image)
        self.world.starts += 1
        self.world.changed.pop(wanted.key, None)
        looks = self.world.pending_looks + 1
        problem = self.world.broken.get(wanted.revision) or self.world.broken.get(wanted.image_uri or "")
        revision = Revision(wanted, self.world.starts, looks, problem)
        keep = [old for old in revisions if old.up]
        self.world.running[wanted.key] = [*keep, revision]
        self.world.removing.pop(wanted.key, None)

    async def remove(self, key: Key) -> None:
        await self._enter("remove", key)
        was_there = self.world.running.pop(key, None)
        if was_there and self.world.removing_looks:
            self.world.removing[key] = self.world.removing_looks + 1

    async def secrets_mark(self, spec: DeploymentSpec, salt: str) -> str:
        await asyncio.sleep(0)
        return f"{salt} {[self.world.secrets[name] for name in sorted(spec.deploy.secrets.values())]}"

    async def resolved(self, key: Key, image_uri: str) -> str | None:
        await self._enter("resolved", key)
        return self.world.digests.get(image_uri)

    async def logs(self, key: Key, *, tail: int, follow: bool) -> AsyncIterator[str]:
        lines = self.world.log.setdefault(key, [])
        sent = max(0, len(lines) - tail)
        while True:
            while sent < len(lines):
                sent += 1
                yield lines[sent - 1]
            if not follow:
                return
            async with self.world.wrote:
                while sent >= len(lines):
                    await self.world.wrote.wait()

    async def aclose(self) -> None:
        self.closed = True

    async def _enter(self, call: str, key: Key, revision: str = "") -> None:
        self.world.calls.append((call, str(key), revision))
        await asyncio.sleep(0)
        if call in self.world.hold:
            await self.world.hold[call].wait()
        if self.world.refuse.get(call):
            raise self.world.refuse[call].pop(0)
