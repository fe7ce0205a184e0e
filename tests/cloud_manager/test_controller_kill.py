"""`kill -9` at every call of a deployment and in the middle of each: nothing is lost, nothing is there twice."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import pytest

from tests.cloud_manager.mortal import Fuse, Killed, MortalStage, When
from tests.cloud_manager.stage import KEY, spec

Life = Callable[[MortalStage], Awaitable[None]]


async def comes_up(stage: MortalStage) -> None:
    await stage.start()
    await stage.settle()


async def is_updated(stage: MortalStage) -> None:
    await stage.start()
    await stage.settle()
    stage.change_files("v2")
    await stage.start()
    await stage.settle()


async def is_rolled_back(stage: MortalStage) -> None:
    await is_updated(stage)
    await stage.rollback()
    await stage.settle()


async def is_rolled_back_while_it_builds(stage: MortalStage) -> None:
    await stage.start()
    await stage.settle()
    stage.change_files("v2")
    await stage.start()
    await stage.steps(2)
    await stage.rollback()
    await stage.settle()


async def is_started_twice(stage: MortalStage) -> None:
    await stage.start()
    await stage.settle()
    await stage.start()
    await stage.settle()


async def moves_to_another_target(stage: MortalStage) -> None:
    await stage.start()
    await stage.settle()
    await stage.start(spec("other"))
    await stage.settle()


async def is_healed(stage: MortalStage) -> None:
    await stage.start()
    await stage.settle()
    stage.world.vanish(KEY)
    await stage.resync()


async def is_changed_while_it_builds(stage: MortalStage) -> None:
    await stage.start()
    await stage.steps(2)
    await stage.start(spec(workdir="app"))
    await stage.settle()


async def is_stopped(stage: MortalStage) -> None:
    await stage.start()
    await stage.settle()
    await stage.stop()
    await stage.settle()


async def is_stopped_while_it_builds(stage: MortalStage) -> None:
    stage.shop.looks = 1000
    await stage.start()
    await stage.steps(2)
    await stage.stop()
    await stage.settle()


async def is_stopped_at_once(stage: MortalStage) -> None:
    stage.shop.looks = 1000
    await stage.start()
    await stage.steps(1)
    await stage.stop()
    await stage.settle()


async def is_stopped_while_it_comes_up(stage: MortalStage) -> None:
    stage.world.pending_looks = 1000
    await stage.start()
    await stage.steps(6)
    await stage.stop()
    await stage.settle()


async def is_started_again_while_it_goes(stage: MortalStage) -> None:
    await stage.start()
    await stage.settle()
    await stage.stop()
    await stage.steps(2)
    await stage.start()
    await stage.settle()


@dataclass(frozen=True)
class Case:
    life: Life
    running: bool
    starts: int
    """Services that are started from first to last: a death starts no second one."""
    same_story: bool = True
    """False where a death changes how far the service was when the next wish came."""


CASES = [
    Case(comes_up, running=True, starts=1),
    Case(is_updated, running=True, starts=2),
    Case(is_rolled_back, running=True, starts=3),
    Case(is_rolled_back_while_it_builds, running=True, starts=1, same_story=False),
    Case(is_started_twice, running=True, starts=1),
    Case(moves_to_another_target, running=True, starts=2),
    Case(is_healed, running=True, starts=2),
    Case(is_changed_while_it_builds, running=True, starts=1, same_story=False),
    Case(is_stopped, running=False, starts=1),
    Case(is_stopped_while_it_builds, running=False, starts=0, same_story=False),
    Case(is_stopped_at_once, running=False, starts=0, same_story=False),
    Case(is_stopped_while_it_comes_up, running=False, starts=1, same_story=False),
    Case(is_started_again_while_it_goes, running=True, starts=2, same_story=False),
]


def told(stage: MortalStage) -> list[str]:
    return [" ".join(line.split()[:4]) for line in stage.story()]


async def lived(case: Case, at: int, when: When, error: type[BaseException] = Killed) -> MortalStage:
    stage = MortalStage(Fuse(at, when, error))
    stage.world.pending_looks = stage.world.removing_looks = 1
    await case.life(stage)
    return stage


@pytest.mark.parametrize("error", [Killed, asyncio.CancelledError])
@pytest.mark.parametrize("when", ["before", "amid", "after"])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.life.__name__)
async def test_killed_at_every_call_it_ends_as_if_nothing_had_happened(
    case: Case, when: When, error: type[BaseException]
) -> None:
    undisturbed = await lived(case, -1, "before")
    for at in range(1000):
        stage = await lived(case, at, when, error)
        note = f"killed {when} call {at}:\n" + "\n".join(stage.story())
        assert stage.matches_wish(running=case.running), note
        starts = sum(world.starts for world in stage.worlds.values())
        assert starts == case.starts or (not case.same_story and starts < case.starts), note
        if case.same_story:
            assert told(stage) == told(undisturbed), note
        else:
            said = [(event.generation, event.message) for event in stage.memory.events]
            assert len(set(said)) == len(said), note
        if not stage.deaths:
            break
    assert at > 5
