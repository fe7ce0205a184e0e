"""One project while this manager holds it: the row as it now is, and the only way in which the controller writes it."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from typing import Any

from cloud_manager.board import Board
from cloud_manager.clock import Clock
from cloud_manager.decide import is_hopeless, taken_up
from cloud_manager.delays import backoff_seconds, poll_delay, ready_delay, resync_delay
from cloud_manager.deployment import Deployment, Phase, may_become
from cloud_manager.store.protocol import NewEvent, Store
from cloud_manager.watch import Unwatched, Watch
from image_builder.contract import Problem

_CAUSES_REMEMBERED = 50


class NewerWish(Exception):
    """`/start` or `/stop` came while the step ran. What it learned is stored; its next step is not for us to take."""


@dataclass(frozen=True, slots=True)
class Desk:
    """What every claim is written with."""

    store: Store
    board: Board
    clock: Clock
    resync_seconds: float
    poll_seconds: float
    watch: Watch = Unwatched()  # noqa: RUF009 - it has no state


class Claim:
    """Holds between `store.own` and its end. `row` is what the store has, besides marks not yet worth a write."""

    def __init__(self, row: Deployment, desk: Desk) -> None:
        self.row = taken_up(row, desk.clock.now())
        self._desk = desk

    async def save(
        self,
        *events: NewEvent,
        once: str = "",
        phase: Phase | None = None,
        delay: float = 0.0,
        tries: int | None = None,
        serving: bool = False,
        **facts: Any,
    ) -> None:
        """Write what changed.

        Args:
            events: what people shall read of it.
            once: what the events are about; they are left out if this generation's history says it already.
            delay: seconds until the project is looked at again.
            serving: as `Store.save`.
            facts: fields of `Facts`.

        Raises:
            NewerWish: it was written, but a newer wish waits.
            LostOwnership, Unavailable: as `Store.save`.
        """
        told = facts.get("told", self.row.facts.told)
        if once and once in told:
            events = ()
        elif once:
            facts["told"] = (*told, once)[-_CAUSES_REMEMBERED:]
        row = self._moved(phase or self.row.phase, facts)
        row = replace(row, due=self.now() + delay, tries=row.tries if tries is None else tries)
        saved = await self._desk.store.save(row, events, now=self.now(), serving=serving)
        self.row = saved
        self._desk.board.put([saved])
        if saved.generation != row.generation:
            raise NewerWish(str(row.key))

    def _moved(self, phase: Phase, facts: dict[str, Any]) -> Deployment:
        row = self.row
        if not may_become(row.phase, phase):
            raise RuntimeError(f"{row.key}: {row.phase} cannot become {phase}")  # A defect of ours: never swallowed.
        if phase is not row.phase:
            facts = {"since": self.now()} | facts
            if row.phase is Phase.RUNNING:
                facts = {"began": self.now()} | facts
        return replace(row, phase=phase, facts=row.facts.model_copy(update=facts))

    def note(self, **facts: Any) -> None:
        """Change facts in memory; they are written with the next `save`."""
        self.row = replace(self.row, facts=self.row.facts.model_copy(update=facts))

    async def retry(self, problem: Problem, *, phase: Phase | None = None, **facts: Any) -> None:
        """Wait and try again, unless there is no hope; say why, once for each cause."""
        if is_hopeless(problem, self.row.tries + 1):
            await self.fail(problem, **facts)
            return
        self._desk.watch.problem(problem.code, final=False)
        tries = self.row.tries + 1
        event = NewEvent("retry", f"waiting to try again: {problem.cause}", problem)
        delay = backoff_seconds(tries, _jitter())
        await self.save(event, once=problem.cause, phase=phase, tries=tries, delay=delay, problem=problem, **facts)

    async def fail(self, problem: Problem, **facts: Any) -> None:
        """Failed, until the next wish. Said once, however often it is found to be so."""
        known = self.row.phase is Phase.FAILED and self.row.facts.problem == problem
        if not known:
            self._desk.watch.problem(problem.code, final=True)
        events = () if known else (NewEvent("error", f"failed: {problem.cause}", problem),)
        await self.save(*events, phase=Phase.FAILED, tries=0, delay=self.resync(), problem=problem, **facts)

    def now(self) -> float:
        return self._desk.clock.now()

    def soon(self) -> float:
        """Delay until the next look at what is awaited."""
        return poll_delay(self.now() - self.row.facts.since, self._desk.poll_seconds)

    def until_ready(self) -> float:
        """Delay until the next look at a service that is coming up."""
        return ready_delay(self._desk.poll_seconds)

    def resync(self) -> float:
        """Delay until the next look at what is at rest."""
        return resync_delay(self._desk.resync_seconds, _jitter())


def _jitter() -> float:
    return random.random()  # noqa: S311 - spreads load, guards nothing
