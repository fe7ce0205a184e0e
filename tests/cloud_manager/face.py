"""The manager's HTTP face on a real port, over parts in memory: what the tests of the routes talk to."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from time import monotonic
from typing import Any, TypeVar

from cloud_manager.app import create_app, face
from cloud_manager.board import Board
from cloud_manager.clock import SystemClock
from cloud_manager.deployment import Key, Phase
from cloud_manager.deployment_spec import Deploy, DeploymentSpec, LoadedSpec
from cloud_manager.drafts import Drafts
from cloud_manager.errors import DeployError
from cloud_manager.preflight import Check, Report
from cloud_manager.routes.event_stream import EventStreams
from cloud_manager.routes.parts import Collaborators
from cloud_manager.server import Server, listen, url_of
from image_builder.contract import BuildEvent, BuildRequest, BuildState, BuildStatus, ImageReference
from tests.fakes.memory_store import MemoryStore

T = TypeVar("T")
PROJECT = Key("7", "42")
SPEC = LoadedSpec(DeploymentSpec(deploy=Deploy(type="local")))


def until(condition: Callable[[], object], seconds: float = 10.0) -> None:
    """Wait, bounded, until something holds."""
    end = monotonic() + seconds
    pause = threading.Event()
    while not condition():
        assert monotonic() < end, "it did not come about"
        pause.wait(0.01)


class FakeDeployments:
    def __init__(self, store: MemoryStore, board: Board) -> None:
        self.store, self.board = store, board
        self.error: Exception | None = None
        self.calls: list[tuple[str, Key]] = []

    async def start(self, key: Key) -> None:
        await self._act("start", key)
        self.board.put([await self.store.want_present(key, SPEC, now=100.0)])

    async def rollback(self, key: Key, to: str | None = None) -> None:
        await self._act(f"rollback {to}", key)

    async def stop(self, key: Key) -> None:
        await self._act("stop", key)
        row = await self.store.want_absent(key, now=101.0)
        self.board.put([row] if row else [])

    async def _act(self, what: str, key: Key) -> None:
        self.calls.append((what, key))
        if self.error:
            raise self.error


class FakeController:
    def __init__(self) -> None:
        self.dies = asyncio.Event()
        self.build: BuildStatus | None = None

    async def run(self) -> None:
        await self.dies.wait()
        raise RuntimeError("the controller's own mistake")

    def build_status(self, key: Key) -> BuildStatus | None:
        return self.build


class FakeTarget:
    """Two lines of log, and, followed, one more for each `say`."""

    ignores = ("deploy.region",)

    def __init__(self) -> None:
        self.more: asyncio.Queue[str] = asyncio.Queue()

    async def logs(self, key: Key, *, tail: int, follow: bool) -> AsyncIterator[str]:
        for line in ["listening on 8080", "GET / 200"][-tail:]:
            yield line
        while follow:
            yield await self.more.get()


class FakeTargets:
    def __init__(self) -> None:
        self.target = FakeTarget()

    def get(self, name: str) -> Any:
        return self.target

    def available(self) -> tuple[str, ...]:
        return ("local",)


class FakeBuilder:
    def __init__(self) -> None:
        self.error: DeployError | None = None
        self.history: list[BuildEvent] = []

    async def status(self, build_id: str) -> BuildStatus | None:
        if self.error:
            raise self.error
        return None

    async def events(self, build_id: str, *, after: int = 0) -> AsyncIterator[BuildEvent]:
        for event in self.history[after:]:
            yield event
        if self.error:
            raise self.error


class FakePreflights:
    def __init__(self) -> None:
        self.asked: list[tuple[Key | None, str | None]] = []

    async def of_project(self, key: Key, target: str | None = None) -> Report:
        self.asked.append((key, target))
        return Report.of(target or "local", [Check(name="disk", outcome="passed", cause="9.0 GiB free")])

    async def run(self, spec: DeploymentSpec | None, target: str | None = None) -> Report:
        self.asked.append((None, target))
        return Report.of(target or "local", [Check(name="disk", outcome="failed", cause="no room", fix="make some")])


class Face:
    """A running server. `store`, `board` … may be changed through `do`, which runs in the server's loop."""

    def __init__(self, shared_root: Path = Path("/nowhere"), **access: Any) -> None:
        self.store, self.board = MemoryStore(), Board()
        self.deployments = FakeDeployments(self.store, self.board)
        self.controller, self.targets, self.builder = FakeController(), FakeTargets(), FakeBuilder()
        self.preflights = FakePreflights()
        self.parts = Collaborators(
            deployments=self.deployments,
            controller=self.controller,
            store=self.store,
            board=self.board,
            targets=self.targets,
            builder=self.builder,  # type: ignore[arg-type]
            preflights=self.preflights,
            drafts=Drafts(self.targets, shared_root),
            clock=SystemClock(),
            streams=EventStreams(keep_alive=0.2),
        )
        self.app = create_app(self.parts, on_death=self._died, **access)
        self.listener = listen("127.0.0.1", 0)
        self.url = url_of(self.listener)
        served = face(self.app, self.parts, tango_needs_token=bool(access.get("tango_needs_token")))
        self.server = Server(served, self.parts.streams.close)
        self.died = False
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self._serve, daemon=True)

    def _died(self) -> None:
        self.died = self.server.should_exit = True

    def _serve(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self.loop) as runner:
            runner.run(self.server.serve(sockets=[self.listener]))

    def do(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(10)

    def know(self, phase: Phase, key: Key = PROJECT, **facts: object) -> None:
        """Make the project one in this phase."""

        async def change() -> None:
            row = await self.store.want_present(key, SPEC, now=100.0)
            row = replace(row, phase=phase, facts=row.facts.model_copy(update=facts), updated=row.updated + 1)
            self.store.memory.rows[key] = row
            self.board.put([row])

        self.do(change())

    def stop(self) -> None:
        self.server.should_exit = True
        self.thread.join(10)
        assert not self.thread.is_alive(), "the server did not end"


@contextmanager
def served(**access: Any) -> Iterator[Face]:
    """access: `token` and `tango_needs_token` of `create_app`."""
    running = Face(**access)
    running.thread.start()
    until(lambda: running.server.started)
    try:
        yield running
    finally:
        running.stop()


def image(digest: str = "ab" * 32) -> ImageReference:
    return ImageReference(repository="builds/1", digest=f"sha256:{digest}", size=3)


def build(state: BuildState = BuildState.RUNNING) -> BuildStatus:
    request = BuildRequest(owner="7/42", source="common/7/42/nn_model", entrypoint=("python", "app.py"))
    return BuildStatus(id="b" * 32, state=state, step="layers", request=request, created=1.0)
