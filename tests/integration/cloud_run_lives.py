"""The lives of a service on Cloud Run, each told once for every fault and every death."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from tests.integration.cloud_run_stage import BROKEN, GoogleStage, wish

Life = Callable[[GoogleStage], Awaitable[None]]
_REVISION, _DELETION = "revision", "deletion"


async def comes_up(stage: GoogleStage) -> None:
    await stage.start(wish("one"))
    await stage.settle()


async def is_updated(stage: GoogleStage) -> None:
    await comes_up(stage)
    await stage.start(wish("two"))
    await stage.settle()


async def is_broken_and_mended(stage: GoogleStage) -> None:
    """The old one serves while the new one does not come up."""
    await comes_up(stage)
    before = await stage.answer()
    await stage.start(BROKEN)
    await stage.settle()
    assert before is None or await stage.answer() == before
    await stage.start(wish("two"))
    await stage.settle()


async def is_broken_and_stopped(stage: GoogleStage) -> None:
    await stage.start(BROKEN)
    await stage.settle()
    await stage.stop()
    await stage.settle()


async def is_changed_while_it_comes_up(stage: GoogleStage) -> None:
    stage.slow(_REVISION)
    await stage.start(wish("one"))
    await stage.steps(4)
    stage.hurry()
    await stage.start(wish("two"))
    await stage.settle()


async def is_stopped(stage: GoogleStage) -> None:
    await comes_up(stage)
    await stage.stop()
    await stage.settle()


async def is_stopped_while_it_comes_up(stage: GoogleStage) -> None:
    stage.slow(_REVISION)
    await stage.start(wish("one"))
    await stage.steps(4)
    stage.hurry()
    await stage.stop()
    await stage.settle()


async def is_started_again_while_it_goes(stage: GoogleStage) -> None:
    await comes_up(stage)
    stage.slow(_DELETION, seconds=0.03)
    await stage.stop()
    await stage.steps(2)
    await stage.start(wish("two"))
    await stage.settle()


async def is_healed(stage: GoogleStage) -> None:
    """Somebody deleted it in the console."""
    await comes_up(stage)
    await stage.deleted_by_hand()
    await stage.resync()


@dataclass(frozen=True)
class Case:
    life: Life
    ends: str | None
    """The version that runs in the end; None: nothing is left."""
    services: int
    """That there ever are."""
    same: bool = True
    """False where a death changes how far it was when the next wish came: there may be fewer services."""


CASES = [
    Case(comes_up, "one", 1),
    Case(is_updated, "two", 1),
    Case(is_broken_and_mended, "two", 1),
    Case(is_broken_and_stopped, None, 1),
    Case(is_changed_while_it_comes_up, "two", 1),
    Case(is_stopped, None, 1),
    Case(is_stopped_while_it_comes_up, None, 1, same=False),
    Case(is_started_again_while_it_goes, "two", 2, same=False),
    Case(is_healed, "one", 2),
]
