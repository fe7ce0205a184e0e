"""How often Google is asked."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
from google.cloud import run_v2

from cloud_manager.deployment import Key
from cloud_manager.errors import Unavailable
from cloud_manager.names import labels
from cloud_manager.targets.cloud_run_snapshot import Snapshots
from tests.cloud_manager.test_cloud_run_observation import service

KEYS = [Key("7", str(number)) for number in range(50)]


class Region:
    """Looks at services, and counts."""

    def __init__(self, *services: run_v2.Service) -> None:
        self.services, self.looks, self.down = services, 0, False

    async def look(self) -> Sequence[run_v2.Service]:
        self.looks += 1
        await asyncio.sleep(0)
        if self.down:
            raise Unavailable("Google is away", "wait")
        return self.services


def ours(key: Key, **more: object) -> run_v2.Service:
    more.setdefault("labels", labels(key, "one"))
    return service(f"s{key.project_id}", **more)


async def test_one_look_is_enough_for_all() -> None:
    region = Region(*map(ours, KEYS))
    snapshots = Snapshots(region.look, period=60)
    found = await asyncio.gather(*map(snapshots.of, KEYS))
    assert [one.name for (one,) in found] == [one.name for one in region.services]
    assert region.looks == 1
    assert await snapshots.of(Key("8", "1")) == ()
    assert region.looks == 1


async def test_what_is_at_rest_is_looked_at_more_seldom_than_what_is_under_way() -> None:
    region, now = Region(ours(KEYS[0]), ours(KEYS[1], reconciling=True)), [100.0]
    snapshots = Snapshots(region.look, 1.0, lambda: now[0])
    looks = []
    for later, key in ((0, 0), (0.9, 1), (5, 0), (0, 1), (5, 0), (6, 0)):
        now[0] += later
        await snapshots.of(KEYS[key], calm=True)
        looks.append(region.looks)
    assert looks == [1, 1, 1, 2, 2, 3]


async def test_what_was_changed_here_is_looked_at_anew() -> None:
    region = Region(ours(KEYS[0]))
    snapshots = Snapshots(region.look, period=60)
    await snapshots.of(KEYS[0])
    snapshots.forget()
    await snapshots.of(KEYS[0], calm=True)
    assert region.looks == 2


async def test_a_look_that_failed_is_not_remembered() -> None:
    region = Region(ours(KEYS[0]))
    snapshots = Snapshots(region.look, period=60)
    region.down = True
    with pytest.raises(Unavailable):
        await snapshots.of(KEYS[0])
    region.down = False
    assert len(await snapshots.of(KEYS[0], calm=True)) == 1


async def test_whoever_is_cancelled_takes_the_look_from_nobody_else() -> None:
    region = Region(ours(KEYS[0]))
    snapshots = Snapshots(region.look, period=60)
    impatient, patient = (asyncio.ensure_future(snapshots.of(KEYS[0])) for _ in range(2))
    await asyncio.sleep(0)
    impatient.cancel()
    assert len(await patient) == 1
    assert region.looks == 1
    await snapshots.aclose()


async def test_another_installation_in_the_same_google_project_is_not_seen() -> None:
    """Else both would update and delete it. Without the label it is of the first installation that there was."""
    key = Key("7", "1")
    old, theirs = labels(key, "one"), labels(key, "one", "staging")
    del old["cloud-deploy-owner"]
    services = [ours(key, labels=old), ours(key, labels=theirs)]

    async def look() -> Sequence[run_v2.Service]:
        return services

    assert await Snapshots(look, 60).of(key) == services[:1]
    assert await Snapshots(look, 60, owner="staging").of(key) == services[1:]
    assert await Snapshots(look, 60, owner="third").of(key) == ()
