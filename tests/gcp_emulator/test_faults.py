"""Faults on demand, and the clock: what a test of the product relies upon."""

from __future__ import annotations

import asyncio

import pytest
from pydantic import ValidationError

from gcp_emulator.clock import ManualClock
from gcp_emulator.faults import Faults, Rule


def test_the_second_and_third_call_on_one_resource_fail_and_no_other() -> None:
    faults = Faults(
        [Rule(call="*.Services.CreateService", resource="*/services/a", nth=2, times=2, code="UNAVAILABLE")]
    )
    call = "google.cloud.run.v2.Services.CreateService"
    struck = [faults.strike(call, "projects/p/locations/r/services/a") is not None for _ in range(5)]
    assert struck == [False, True, True, False, False]
    assert faults.strike(call, "projects/p/locations/r/services/b") is None
    assert faults.strike("google.cloud.run.v2.Services.GetService", "projects/p/locations/r/services/a") is None
    assert faults.calls[call] == 6


def test_rules_are_counted_each_for_itself_and_the_first_that_hits_wins() -> None:
    faults = Faults([Rule(call="POST *", nth=2, code="ABORTED"), Rule(call="POST *", times=0, code="INTERNAL")])
    codes = [
        struck.code if struck else None for struck in (faults.strike("POST storage.googleapis.com/b") for _ in "123")
    ]
    assert codes == ["INTERNAL", "ABORTED", "INTERNAL"]


def test_quota_errors_are_in_googles_words() -> None:
    fault = Rule(call="*", code="RESOURCE_EXHAUSTED")
    words = fault.words("google.cloud.run.v2.Services.CreateService", "x", "123")
    assert words.startswith("Quota exceeded for quota metric 'Write requests'")
    assert words.endswith("of service 'run.googleapis.com' for consumer 'project_number:123'.")
    assert fault.http_status == 429


def test_a_rule_that_does_nothing_is_refused() -> None:
    with pytest.raises(ValidationError, match="needs a code"):
        Rule(call="*")


async def test_who_sleeps_wakes_in_time_and_in_order() -> None:
    clock, woken = ManualClock(0.0), list[tuple[str, float]]()

    async def sleeper(name: str, *naps: float) -> None:
        for nap in naps:
            await clock.sleep(nap)
            woken.append((name, clock.now()))

    tasks = [asyncio.ensure_future(sleeper("slow", 5)), asyncio.ensure_future(sleeper("quick", 1, 2))]
    await clock.advance(4)
    assert woken == [("quick", 1.0), ("quick", 3.0)]
    assert clock.sleeping == 1
    await clock.advance(1)
    assert woken[-1] == ("slow", 5.0)
    await asyncio.gather(*tasks)
