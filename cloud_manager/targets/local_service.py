"""One revision of a project: its program started, watched, started again with patience, or given up with a reason."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Sequence

from cloud_manager.targets.local_health import answers, is_free, listening
from cloud_manager.targets.local_log import LogWriter
from cloud_manager.targets.local_problems import (
    entrypoint_missing,
    exited,
    given_up,
    never_listens,
    unhealthy,
    wrong_port,
)
from cloud_manager.targets.local_program import Program, family
from cloud_manager.targets.local_run import Problem, Run, ServiceReport, ServiceState

_RACES = 3
"""How often a program that lost its port to another process gets a new one."""


class Service:
    """States as in `ServiceState`. `changed` is called after every change of what `report` tells."""

    def __init__(
        self,
        run: Run,
        *,
        mark: str,
        log: LogWriter,
        choose_port: Callable[[int], int],
        changed: Callable[[], None],
    ) -> None:
        self.run = run
        self.state: ServiceState = "starting"
        self.problem: Problem | None = None
        self.port: int | None = None
        self.program: Program | None = None
        self._mark = mark
        self._log = log
        self._choose_port = choose_port
        self._changed = changed
        self._restarts = 0
        self._numbers = itertools.count(1)
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(self._live())

    @property
    def trying(self) -> bool:
        return self.state in ("starting", "ready", "restarting")

    def fail(self, problem: Problem) -> None:
        """Given up before the first start."""
        self._become("failed", problem)

    def report(self) -> ServiceReport:
        program = self.program
        return ServiceReport(
            self.run.revision,
            self.state,
            port=self.port,
            pid=program.pid if program else None,
            started=program.started if program else None,
            restarts=self._restarts,
            problem=self.problem,
        )

    async def stop(self) -> None:
        """The program and all its children are dead when this returns. May be called again."""
        if self._task is not None:
            if self.trying:
                self._become("stopping")
                self._task.cancel()
            await asyncio.wait([self._task])  # once begun, an orderly end is not cut short
        if self.state != "failed":
            self._become("stopped")

    async def _live(self) -> None:
        """Start; once it was healthy, start again whenever it ends, until it crashes too often."""
        loop = asyncio.get_running_loop()
        crashes, lost_races = 0, 0
        while True:
            problem, since = await self._once()
            if self._restarts == 0 and since is None:
                if self._lost_port(problem) and lost_races < _RACES:
                    lost_races += 1
                    continue
                return self._become("failed", problem)
            stable = since is not None and loop.time() - since >= self.run.timing.stable
            crashes = 1 if stable else crashes + 1
            if crashes >= self.run.timing.crashes:
                return self._become("failed", given_up(problem, crashes))
            self._restarts += 1
            self._become("restarting", problem)
            await asyncio.sleep(self._pause(crashes))

    def _lost_port(self, problem: Problem) -> bool:
        """Whether somebody took the private port between our choice and the program's start."""
        return problem["code"] == "exited" and self.port is not None and not is_free(self.port)

    def _pause(self, crashes: int) -> float:
        timing = self.run.timing
        return float(min(timing.backoff * 2 ** (crashes - 1), timing.backoff_limit))

    async def _once(self) -> tuple[Problem, float | None]:
        """One life of the program: why it ended, and since when it was healthy (loop time) or None."""
        self.port = self._choose_port(self.run.port)
        try:
            mark = f"{self._mark}.{next(self._numbers)}"
            self.program = program = await Program.start(self.run, self.port, mark, self._log)
        except OSError as error:
            self._log.say(f"cannot start {self.run.argv[0]}: {error}")
            return entrypoint_missing(self.run.argv[0], self.run.cwd), None
        self._changed()
        try:
            return await self._watched(program, self.port)
        finally:
            await program.end(self.run.timing.grace)
            self.program = None

    async def _watched(self, program: Program, port: int) -> tuple[Problem, float | None]:
        """Runs the watch beside the wait for the program's end; whichever comes first tells the story."""
        healthy_since: list[float] = []
        ended = asyncio.create_task(program.ended())
        watch = asyncio.create_task(self._watch(program, port, healthy_since))
        try:
            await asyncio.wait([ended, watch], return_when=asyncio.FIRST_COMPLETED)
            problem = exited(ended.result(), program.lines, port) if ended.done() else watch.result()
        finally:
            for task in (ended, watch):
                task.cancel()
            await asyncio.gather(ended, watch, return_exceptions=True)
        return problem, healthy_since[0] if healthy_since else None

    async def _watch(self, program: Program, port: int, healthy_since: list[float]) -> Problem:
        """Returns what is wrong, as soon as something is."""
        problem = await self._comes_up(program, port)
        if problem is not None:
            return problem
        healthy_since.append(asyncio.get_running_loop().time())
        self._become("ready")
        return await self._stays_up(program, port)

    async def _comes_up(self, program: Program, port: int) -> Problem | None:
        """None once the health check is answered."""
        loop, run = asyncio.get_running_loop(), self.run
        deadline = loop.time() + run.startup_seconds
        elsewhere_since: float | None = None
        while not await self._is_up(program, port):
            found = await asyncio.to_thread(lambda: listening(family(program.pid)))
            astray = bool(found) and port not in found and await self._any_answers(sorted(found))
            elsewhere_since = (elsewhere_since or loop.time()) if astray else None
            late = loop.time() > deadline
            if elsewhere_since is not None and (late or loop.time() - elsewhere_since > run.timing.elsewhere):
                return wrong_port(sorted(found), port, program.lines)
            if late:
                return self._too_late(found, port, program)
            await asyncio.sleep(run.timing.probe)
        return None

    async def _is_up(self, program: Program, port: int) -> bool:
        """An answer counts only if it is ours: another process may have taken the port a moment before."""
        if not await answers(port, self.run.health_path, self.run.timeout_seconds):
            return False
        return port in await asyncio.to_thread(lambda: listening(program.everyone()))

    def _too_late(self, found: set[int], port: int, program: Program) -> Problem:
        if found and port not in found:
            return wrong_port(sorted(found), port, program.lines)
        run = self.run
        return never_listens(port, run.health_path, run.startup_seconds, program.lines, port in found)

    async def _any_answers(self, ports: Sequence[int]) -> bool:
        """A port that answers HTTP is the service itself; others may be its workers talking to each other."""
        for port in ports:
            if await answers(port, self.run.health_path, self.run.timeout_seconds):
                return True
        return False

    async def _stays_up(self, program: Program, port: int) -> Problem:
        missed, run = 0, self.run
        while missed < run.failure_threshold:
            await asyncio.sleep(run.period_seconds)
            missed = 0 if await answers(port, run.health_path, run.timeout_seconds) else missed + 1
        return unhealthy(run.health_path, port, missed, program.lines)

    def _become(self, state: ServiceState, problem: Problem | None = None) -> None:
        if (state, problem) == (self.state, self.problem):
            return
        self.state, self.problem = state, problem
        cause = f": {problem['cause']}" if problem else ""
        self._log.say(f"revision {self.run.revision} is {state}{cause}")
        self._changed()
