"""Wishes, changes and deaths in any order: once it is quiet, the world matches the last wish."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from cloud_manager.deployment import Phase, Want
from cloud_manager.errors import TargetError, Unavailable
from image_builder.contract import Problem
from tests.cloud_manager.mortal import Fuse, MortalStage, When
from tests.cloud_manager.stage import KEY, prebuilt, spec

MISHAP = Problem(code="fetch_failed", cause="the network is away", fix="Wait", retryable=True)
WRONG = Problem(code="package_not_found", cause="no package flaskk", fix="Mend the name")


class Anything(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.stage = MortalStage(Fuse(-1, "before"))
        self.started = False

    def teardown(self) -> None:
        self.loop.run_until_complete(self.loop.shutdown_default_executor())
        self.loop.close()

    def do(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self.loop.run_until_complete(work)

    @initialize(pending=st.integers(0, 2), removing=st.integers(0, 2), looks=st.integers(0, 3))
    def world(self, pending: int, removing: int, looks: int) -> None:
        for world in self.stage.worlds.values():
            world.pending_looks, world.removing_looks = pending, removing
        self.stage.shop.looks = looks

    @rule(type=st.sampled_from(["fake", "other"]), workdir=st.sampled_from(["app", "srv"]))
    def start(self, type: str, workdir: str) -> None:
        self.do(self.stage.start(spec(type, workdir=workdir)))
        self.started = True

    @rule()
    def start_prebuilt(self) -> None:
        self.do(self.stage.start(prebuilt()))
        self.started = True

    @rule()
    def stop(self) -> None:
        self.do(self.stage.stop())

    @rule(text=st.sampled_from(["v1", "v2"]))
    def change_files(self, text: str) -> None:
        self.stage.change_files(text)

    @precondition(lambda self: self.started)
    @rule(count=st.integers(1, 6))
    def steps(self, count: int) -> None:
        self.do(self.stage.steps(count))

    @precondition(lambda self: self.started)
    @rule(at=st.integers(0, 12), when=st.sampled_from(["before", "amid", "after"]))
    def die(self, at: int, when: When) -> None:
        self.stage.fuse.at, self.stage.fuse.when = self.stage.fuse.calls + at, when

    @rule(problem=st.sampled_from([MISHAP, WRONG]))
    def next_build_fails(self, problem: Problem) -> None:
        self.stage.shop.broken = [problem]

    @rule(final=st.booleans(), call=st.sampled_from(["observe", "apply", "remove"]))
    def next_call_is_refused(self, final: bool, call: str) -> None:
        error = TargetError("no", "Mend it") if final else Unavailable("busy", "Wait")
        self.stage.world.refuse[call] = [error]

    @rule(away=st.booleans())
    def builder_goes_or_comes(self, away: bool) -> None:
        self.stage.shop.away = away

    @rule()
    def builder_clears_its_cache(self) -> None:
        self.stage.shop.lose_images()

    @rule()
    def someone_deletes_the_service(self) -> None:
        self.stage.world.vanish(KEY)

    @precondition(lambda self: self.started)
    @rule()
    def it_becomes_quiet(self) -> None:
        """Nothing more happens: within two looks, and one for each call still to be refused, all is as wished."""
        self.stage.shop.away = False
        refused = sum(len(errors) for world in self.stage.worlds.values() for errors in world.refuse.values())
        for _ in range(2 + refused):
            self.do(self.stage.resync())
        row = self.stage.row()
        note = f"{row.phase}, {row.facts}\n" + "\n".join(self.stage.story())
        if row.want is Want.ABSENT:
            assert row.phase is Phase.STOPPED or row.facts.problem == TargetError("no", "Mend it").problem, note
            assert row.phase is not Phase.STOPPED or self.stage.nothing_left(), note
        elif row.phase is Phase.RUNNING:
            assert self.stage.matches_wish(running=True), note
            assert row.facts.problem is None, note
        else:
            assert row.phase is Phase.FAILED, note
            assert row.facts.problem is not None, note

    @invariant()
    def what_exists_is_noted(self) -> None:
        """Whatever exists can be found and removed by the next process."""
        if self.started:
            placed_on = self.stage.row().facts.placed_on
            there = [name for name, world in self.stage.worlds.items() if world.running.get(KEY)]
            assert set(there) <= set(placed_on)


Anything.TestCase.settings = settings(
    max_examples=60, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck)
)
TestAnything = Anything.TestCase
