"""How soon a user learns that a service is ready, by the clock: the controller's looks over Cloud Run's shared ones."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from google.cloud import run_v2

from cloud_manager.deployment import Key, Phase
from cloud_manager.names import labels
from cloud_manager.targets.cloud_run import LOOK_PERIOD
from cloud_manager.targets.cloud_run_observation import observation
from cloud_manager.targets.cloud_run_snapshot import Snapshots
from cloud_manager.targets.target import Observation, Wanted
from tests.cloud_manager.stage import NamedTarget, Stage
from tests.fakes.clock import ManualClock
from tests.fakes.target import World

_State = run_v2.Condition.State


class SlowService(NamedTarget):
    """A service that is ready so many seconds after it was asked for; seen as Cloud Run's are."""

    def __init__(self, clock: ManualClock, takes: float) -> None:
        super().__init__("fake", World())
        self._clock = clock
        self._takes = takes
        self._snapshots = Snapshots(self._look, LOOK_PERIOD, clock.now)
        self._wanted: Wanted | None = None
        self.ready_at = 0.0

    async def apply(self, wanted: Wanted) -> None:
        self._wanted, self.ready_at = wanted, self._clock.now() + self._takes
        self._snapshots.forget()

    async def observe(self, key: Key) -> Observation:
        return observation(await self._snapshots.of(key, calm=True))

    async def _look(self) -> Sequence[run_v2.Service]:
        if self._wanted is None:
            return []
        ready = self._clock.now() >= self.ready_at
        state = _State.CONDITION_SUCCEEDED if ready else _State.CONDITION_RECONCILING
        service = run_v2.Service(
            name="projects/p/locations/r/services/a",
            labels=labels(self._wanted.key, self._wanted.revision),
            reconciling=not ready,
            terminal_condition=run_v2.Condition(state=state),
            latest_ready_revision="a-00001-abc" if ready else "",
            uri="https://a.run.app",
        )
        return [service]


@pytest.mark.parametrize("takes", [0.1, 0.9, 1.0, 3.3, 20.0, 59.7, 61.2, 119.9, 239.5])
async def test_a_deploy_notices_readiness_within_two_seconds_of_it(takes: float) -> None:
    """However long it took: else a model that loads for a minute would seem to take a tenth longer."""
    stage = Stage()
    target = SlowService(stage.clock, takes)
    stage.targets.targets["fake"] = target
    await stage.start()
    await stage.until(Phase.PREPARING)
    for _ in range(2000):
        if stage.row().phase is Phase.RUNNING:
            break
        await stage.step()
    assert stage.row().phase is Phase.RUNNING
    late = stage.clock.now() - target.ready_at
    assert 0 <= late <= 2.0 - 0.2, "a call to Google takes a moment, too"


async def test_a_service_that_comes_up_is_not_asked_about_more_often_than_is_of_use() -> None:
    """The look before it is still good: asking sooner would tell nothing new."""
    stage = Stage()
    target = SlowService(stage.clock, 60.0)
    stage.targets.targets["fake"] = target
    await stage.start()
    await stage.until(Phase.PREPARING)
    token = stage.row().token
    while stage.row().phase is not Phase.RUNNING:
        await stage.step()
    assert stage.row().token - token <= 60 / 0.75 + 3
