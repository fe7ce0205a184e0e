"""A thousand services on Cloud Run: what Google is asked while nothing happens."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from google.cloud import run_v2

from cloud_manager.deployment import Key, Phase
from cloud_manager.names import labels
from cloud_manager.routes.tango import StatusWords
from gcp_emulator.run_services import LARGEST_PAGE
from tests.cloud_manager.stage import KEY, RESYNC
from tests.gcp_emulator.run_stock import Stock, stock
from tests.integration.cloud_run_stage import GoogleStage, wish

MANY = 1000
_RUN = "google.cloud.run.v2."


@pytest.fixture
async def google(tmp_path: Path) -> AsyncIterator[Stock]:
    async with stock(tmp_path) as google:
        yield google


async def thousand(google: Stock, period: float) -> GoogleStage:
    """As many that run and are at rest."""
    stage = GoogleStage(google)
    await stage.start(wish())
    await stage.settle()
    row, (one,) = stage.row(), stage.ours()
    for number in range(MANY - 1):
        key = Key("8", str(number))
        stage.memory.rows[key] = replace(row, key=key)
        own = labels(key, str(row.facts.revision))
        stage.services.put_service(run_v2.Service(one, name=f"{one.name}-{number}", labels=own))
    stage.period = period
    stage.restart()
    stage.board.put(stage.memory.rows.values())
    return stage


def asked(google: Stock, before: Counter[str]) -> dict[str, int]:
    return {call: count for call, count in (google.twin.faults.calls - before).items() if call.startswith(_RUN)}


async def polled(board: Any, managers: int) -> None:
    """What so many of TANGO's project managers ask every two seconds, each for every project."""
    transport = httpx.ASGITransport(app=StatusWords(httpx.ASGITransport, board))
    async with httpx.AsyncClient(transport=transport, base_url="http://manager") as client:
        for key in [KEY, Key("8", "0"), Key("8", str(MANY - 2))] * managers:
            query = {"user_id": key.user_id, "project_id": key.project_id}
            assert (await client.get("/status_request", params=query)).text == "running"


async def test_one_list_in_a_period_serves_all_at_rest_and_all_who_poll(google: Stock) -> None:
    """Google's quota is per minute, and is for everybody in the project."""
    stage = await thousand(google, period=600)
    before = google.twin.faults.calls.copy()
    await polled(stage.board, managers=20)
    assert asked(google, before) == {}
    stage.clock.advance(1.2 * RESYNC)
    await asyncio.gather(*(stage.controller.reconcile(key) for key in stage.memory.rows))
    await polled(stage.board, managers=20)
    assert asked(google, before) == {f"{_RUN}Services.ListServices": MANY / LARGEST_PAGE}, "one list, in its pages"
    assert all(row.phase is Phase.RUNNING and row.due > stage.clock.now() for row in stage.memory.rows.values())


async def test_one_that_moves_among_a_thousand_costs_its_own_calls_alone(google: Stock) -> None:
    stage = await thousand(google, period=0)
    before = google.twin.faults.calls.copy()
    await stage.stop()
    await stage.settle()
    calls = asked(google, before)
    lists = calls.pop(f"{_RUN}Services.ListServices") / (MANY / LARGEST_PAGE)
    assert calls == {f"{_RUN}Services.GetService": 1, f"{_RUN}Services.DeleteService": 1}
    assert lists <= 4, "before the change, and after it"
    assert not stage.ours()
