"""`kill -9` of the manager at every call of a life on Cloud Run: it ends as if nothing had happened."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.cloud_manager.mortal import Fuse, When
from tests.gcp_emulator.run_stock import Stock, stock
from tests.integration.cloud_run_lives import CASES, Case, comes_up, is_updated
from tests.integration.cloud_run_stage import GoogleStage, LateFuse

pytestmark = pytest.mark.timeout(240)
SHORTER = [pytest.param(case, marks=[pytest.mark.long] * (case.life in (comes_up, is_updated))) for case in CASES]
"""The first two are the beginning of a third."""


@pytest.fixture
async def google(tmp_path: Path) -> AsyncIterator[Stock]:
    async with stock(tmp_path) as google:
        yield google


async def lived(google: Stock, case: Case, fuse: Fuse, *, store_dies: bool = True) -> GoogleStage:
    google.twin.faults.replace([])
    stage = GoogleStage(google, fuse, store_dies=store_dies)
    await case.life(stage)
    return stage


@pytest.mark.parametrize("when", [pytest.param("amid", marks=pytest.mark.long), "after"])
@pytest.mark.parametrize("case", SHORTER, ids=lambda case: case.life.__name__)
async def test_killed_at_every_call(google: Stock, case: Case, when: When) -> None:
    for at in range(500):
        stage = await lived(google, case, Fuse(at, when))
        note = f"killed {when} call {at}:\n{stage.told()}"
        assert await stage.is_as_wished(case.ends), note
        services = len(stage.uids)
        assert services == case.services or (not case.same and services < case.services), note
        if not stage.deaths:
            break
    assert at > 5


@pytest.mark.parametrize("seconds", [*(pytest.param(soon, marks=pytest.mark.long) for soon in (0.2, 3.0)), 25.0])
@pytest.mark.parametrize("case", SHORTER, ids=lambda case: case.life.__name__)
async def test_what_a_dead_manager_had_sent_may_arrive_late(google: Stock, case: Case, seconds: float) -> None:
    """Until then Google shows nothing of it; a service made for nobody would be paid for, for ever."""
    for at in range(100):
        stage = await lived(google, case, LateFuse(at, "before", seconds=seconds), store_dies=False)
        await stage.arrive(until=math.inf)
        await stage.resync()
        assert await stage.is_as_wished(case.ends), f"call {at}, {seconds} s late:\n{stage.told()}"
        if not stage.deaths:
            break
    assert at > 5
