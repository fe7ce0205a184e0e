"""Services that others delete or change: put back, or left alone and told, as `deploy.on_drift` says."""

from __future__ import annotations

import pytest

from cloud_manager.deployment import Phase, revision_of
from image_builder.contract import Problem
from tests.cloud_manager.stage import KEY, Stage, spec

EDITED = "its environment was changed"


async def running(on_drift: str) -> Stage:
    stage = Stage()
    await stage.start(spec(on_drift=on_drift))
    await stage.settle()
    return stage


def problem_of(stage: Stage) -> Problem:
    problem = stage.row().facts.problem
    assert problem is not None
    return problem


async def test_a_changed_service_is_put_back_and_the_history_says_what_had_changed() -> None:
    stage = await running("heal")
    for _ in range(2):
        stage.world.change(KEY, EDITED)
        row = await stage.resync()
        assert (row.phase, row.facts.problem, row.facts.drift) == (Phase.RUNNING, None, ())
    assert stage.world.starts == 3
    assert sum(EDITED in line for line in stage.story()) == 2


async def test_reported_a_changed_service_that_answers_is_left_running_and_told_once() -> None:
    stage = await running("report")
    stage.world.change(KEY, EDITED)
    for _ in range(3):
        row = await stage.resync()
        assert (row.phase, row.facts.drift) == (Phase.RUNNING, (EDITED,))
    assert (problem_of(stage).code, EDITED in problem_of(stage).cause) == ("drift", True)
    assert stage.world.count("apply") == 1
    assert stage.kinds().count("drift") == 1
    assert stage.board.word("7", "42") == b"running"
    stage.world.change(KEY, EDITED, "its image was changed")
    await stage.resync()
    assert stage.kinds().count("drift") == 2, "another change is news"


async def test_reported_a_service_that_is_gone_is_failed_and_not_put_back() -> None:
    stage = await running("report")
    instance = stage.world.running[KEY]
    stage.world.vanish(KEY)
    for _ in range(2):
        row = await stage.resync()
        assert (row.phase, problem_of(stage).code, row.facts.url) == (Phase.FAILED, "drift", None)
    assert stage.world.count("apply") == 1
    assert stage.kinds().count("drift") == 1
    stage.world.running[KEY] = instance
    row = await stage.resync()
    assert (row.phase, row.facts.problem, row.facts.drift) == (Phase.RUNNING, None, ())


async def test_reported_another_revision_in_its_place_is_named() -> None:
    stage = await running("report")
    stage.change_files("v2")
    await stage.start(spec(on_drift="report"))
    new = str((await stage.settle()).facts.revision)
    old = (await stage.wishes.revisions(KEY))[1].revision
    wanted = stage.world.running[KEY][0].wanted
    stage.world.running[KEY][0].wanted = type(wanted)(wanted.key, wanted.spec, old, wanted.image)
    row = await stage.resync()
    assert (row.phase, row.facts.drift) == (Phase.RUNNING, (f"revision {old} is there instead of {new}",))


async def test_what_is_undone_by_hand_is_told_too() -> None:
    stage = await running("report")
    stage.world.change(KEY, EDITED)
    await stage.resync()
    stage.world.changed.clear()
    row = await stage.resync()
    assert (row.phase, row.facts.problem, row.facts.drift) == (Phase.RUNNING, None, ())
    assert stage.kinds()[-2:] == ["drift", "drift"]
    assert stage.world.count("apply") == 1


@pytest.mark.parametrize("gone", [True, False])
async def test_a_start_puts_it_back_on_purpose(gone: bool) -> None:
    stage = await running("report")
    if gone:
        stage.world.vanish(KEY)
    else:
        stage.world.change(KEY, EDITED)
    await stage.resync()
    await stage.start(spec(on_drift="report"))
    row = await stage.settle()
    assert (row.phase, row.facts.problem, row.facts.drift) == (Phase.RUNNING, None, ())
    assert (stage.world.starts, stage.world.changed) == (2, {})


async def test_a_service_that_dies_by_itself_is_no_drift() -> None:
    stage = await running("report")
    stage.world.crash(KEY)
    row = await stage.resync()
    assert (row.phase, problem_of(stage).code) == (Phase.FAILED, "exited")
    assert "drift" not in stage.kinds()


async def test_a_stop_takes_away_what_others_have_changed() -> None:
    stage = await running("report")
    stage.world.change(KEY, EDITED)
    await stage.resync()
    await stage.stop()
    row = await stage.settle()
    assert (row.phase, row.facts.drift, stage.serving()) == (Phase.STOPPED, (), 0)


def test_the_policy_is_no_part_of_what_runs() -> None:
    """Else writing `report` into a file would restart the service."""
    assert revision_of(spec(on_drift="report"), "i") == revision_of(spec(), "i")
