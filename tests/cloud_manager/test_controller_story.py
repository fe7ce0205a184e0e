"""The life of a project, step by step: what a user sees in the status word, the history and the world."""

from __future__ import annotations

import pytest

from cloud_manager.deployment import Phase
from cloud_manager.errors import TargetError, Unavailable
from image_builder.contract import Problem
from tests.cloud_manager.stage import KEY, RESYNC, Stage, prebuilt, spec

LOST = Problem(code="fetch_failed", cause="flask could not be downloaded", fix="Check the network", retryable=True)
NONE = Problem(code="package_not_found", cause="no package flaskk", fix="Mend the name")


async def test_the_happy_path_tells_its_story_event_by_event() -> None:
    stage = Stage()
    stage.world.pending_looks = 2
    await stage.start()
    row = await stage.settle()
    assert row.phase is Phase.RUNNING
    assert row.facts.url == "http://7.42.fake"
    assert row.facts.placed_on == ("fake",)
    assert row.facts.settled_generation == row.generation
    words = [" ".join(line.split()[:4]) for line in stage.story()]
    assert words == [
        "start: start asked for:",
        "build: building the image",
        "build: the image is",
        "target: starting the service",
        "phase: running at http://7.42.fake",
    ]
    assert stage.world.count("apply") == 1
    assert stage.board.word("7", "42") == b"running"


async def test_every_phase_word_is_seen_in_order() -> None:
    stage = Stage()
    stage.world.pending_looks = 1
    await stage.start()
    seen = [stage.row().phase]
    while stage.row().phase is not Phase.RUNNING:
        row = await stage.step()
        if row.phase is not seen[-1]:
            seen.append(row.phase)
    assert seen == [Phase.STARTED, Phase.BUILDING, Phase.PREPARING, Phase.RUNNING]


async def test_the_same_start_again_shows_no_blip_and_applies_nothing() -> None:
    stage = Stage()
    await stage.start()
    await stage.settle()
    await stage.start()
    while stage.row().facts.settled_generation < 2:
        assert (await stage.step()).phase is Phase.RUNNING
    assert stage.world.count("apply") == 1
    assert stage.shop.made == 1
    assert stage.story()[-1] == "note: nothing has changed: the service goes on as it was"


async def test_the_same_start_again_is_no_blip_though_the_builder_lost_its_images() -> None:
    stage = Stage()
    await stage.start()
    await stage.settle()
    stage.shop.builds.clear()
    await stage.start()
    while stage.row().facts.settled_generation < 2:
        assert (await stage.step()).phase is Phase.RUNNING
    assert stage.world.count("apply") == 1


async def test_changed_files_are_an_update_without_a_gap() -> None:
    stage = Stage()
    stage.world.pending_looks = 2
    await stage.start()
    await stage.settle()
    stage.change_files("v2")
    await stage.start()
    while stage.row().facts.settled_generation < 2:
        row = await stage.step()
        assert row.phase is not Phase.FAILED
        assert stage.world.serving(KEY) is not None
    assert stage.serving() == 1
    assert any(line.startswith("target: updating the service") for line in stage.story())
    assert [build.owners for build in stage.shop.builds.values()] == [(), ("7/42",)]


async def test_a_changed_file_during_the_build_gives_up_the_old_build() -> None:
    stage = Stage()
    stage.shop.looks = 1000
    await stage.start()
    await stage.until(Phase.BUILDING)
    first = stage.row().facts.build_id
    await stage.start(spec(workdir="app"))
    await stage.step()
    await stage.step()
    assert stage.shop.in_flight() == [stage.row().facts.build_id]
    assert stage.row().facts.build_id != first
    stage.shop.run()
    await stage.settle()
    assert stage.serving() == 1


@pytest.mark.parametrize("steps", range(8))
async def test_stop_in_every_phase_leaves_nothing(steps: int) -> None:
    stage = Stage()
    stage.world.pending_looks = 2
    stage.world.removing_looks = 2
    await stage.start()
    for _ in range(steps):
        await stage.step()
    await stage.stop()
    row = await stage.settle()
    assert row.phase is Phase.STOPPED
    assert stage.nothing_left()
    assert row.facts.build_id is row.facts.image is row.facts.url is None
    assert row.facts.placed_on == ()
    assert stage.story()[-1] == "phase: stopped"
    assert len(set(stage.story())) == len(stage.story())


async def test_a_start_right_after_a_stop_waits_for_the_removal_and_runs() -> None:
    stage = Stage()
    stage.world.removing_looks = 3
    await stage.start()
    await stage.settle()
    await stage.stop()
    await stage.step()
    await stage.step()
    await stage.start()
    row = await stage.settle()
    assert row.phase is Phase.RUNNING
    assert stage.serving() == 1


async def test_stopping_twice_is_said_once() -> None:
    stage = Stage()
    await stage.start()
    await stage.settle()
    await stage.stop()
    await stage.settle()
    count = len(stage.story())
    await stage.stop()
    await stage.settle()
    assert len(stage.story()) == count


async def test_another_type_removes_the_service_from_the_old_target_once_the_new_one_runs() -> None:
    stage = Stage()
    await stage.start()
    await stage.settle()
    await stage.start(spec("other"))
    while stage.row().facts.settled_generation < 2:
        await stage.step()
        assert stage.serving("fake") == 1
    row = await stage.settle()
    assert (stage.serving("fake"), stage.serving("other")) == (0, 1)
    assert row.facts.placed_on == ("other",)
    assert row.phase is Phase.RUNNING


async def test_an_old_target_that_is_gone_does_not_make_the_new_service_failed() -> None:
    stage = Stage()
    await stage.start()
    await stage.settle()
    del stage.targets.targets["fake"]
    await stage.start(spec("other"))
    row = await stage.settle()
    assert row.phase is Phase.RUNNING
    await stage.resync()
    assert sum("cannot be removed" in line for line in stage.story()) == 1


async def test_a_build_that_cannot_work_is_failed_with_the_builders_reason() -> None:
    stage = Stage()
    stage.shop.broken = [NONE]
    await stage.start()
    row = await stage.settle()
    assert (row.phase, row.facts.problem) == (Phase.FAILED, NONE)
    assert stage.story()[-1] == "error: failed: no package flaskk"
    await stage.resync()
    assert stage.story()[-1] == "error: failed: no package flaskk"
    assert stage.kinds().count("error") == 1
    await stage.start()
    assert (await stage.settle()).phase is Phase.RUNNING


async def test_a_build_that_failed_by_chance_is_tried_again_and_said_once() -> None:
    stage = Stage()
    stage.shop.broken = [LOST, LOST, LOST]
    await stage.start()
    assert (await stage.settle()).phase is Phase.RUNNING
    assert stage.kinds().count("retry") == 1
    assert stage.row().facts.problem is None


async def test_a_builder_that_is_away_is_waited_for_and_the_user_is_told() -> None:
    stage = Stage()
    stage.shop.away = True
    await stage.start()
    for _ in range(20):
        row = await stage.step()
        assert row.phase is Phase.STARTED
        assert row.facts.problem is not None
    assert stage.kinds().count("retry") == 1
    stage.shop.away = False
    assert (await stage.settle()).phase is Phase.RUNNING


async def test_a_builder_that_dies_in_the_middle_is_waited_for() -> None:
    stage = Stage()
    stage.shop.looks = 4
    await stage.start()
    await stage.until(Phase.BUILDING)
    for _ in range(2):
        stage.shop.away = True
        for _ in range(3):
            assert (await stage.step()).phase is Phase.BUILDING
        stage.shop.away = False
        assert (await stage.step()).tries == 0
    assert (await stage.settle()).phase is Phase.RUNNING
    assert stage.kinds().count("retry") == 2


async def test_a_builder_that_forgot_the_build_is_asked_again() -> None:
    stage = Stage()
    stage.shop.looks = 5
    await stage.start()
    await stage.until(Phase.BUILDING)
    stage.shop.builds.clear()
    assert (await stage.settle()).phase is Phase.RUNNING


async def test_a_build_cancelled_by_others_is_asked_for_again_but_not_for_ever() -> None:
    stage = Stage()
    stage.shop.looks = 1000
    await stage.start()
    for _ in range(100):
        for build_id in stage.shop.in_flight():
            stage.shop.cancel(build_id)
        row = await stage.step()
        if row.phase is Phase.FAILED:
            break
    assert row.facts.problem is not None
    assert row.facts.problem.code == "build_cancelled"
    assert stage.shop.count("submit") == 5


async def test_a_refused_build_fails_at_once() -> None:
    stage = Stage()
    stage.shop.refuse = [TargetError("a registry is not there yet", "Leave image_uri out", code="bad_build_request")]
    await stage.start()
    row = await stage.settle()
    assert row.phase is Phase.FAILED
    assert row.facts.asking is None


async def test_a_stop_while_the_builder_is_away_takes_the_service_down_and_tells_the_builder_later() -> None:
    stage = Stage()
    await stage.start()
    await stage.settle()
    stage.shop.looks = 1000
    stage.change_files("v2")
    await stage.start()
    await stage.until(Phase.BUILDING)
    stage.shop.away = True
    await stage.stop()
    await stage.until(Phase.STOPPED)
    assert stage.serving() == 0
    assert "as soon as the image builder answers" in stage.story()[-2] + stage.story()[-1]
    stage.shop.away = False
    await stage.settle()
    assert stage.nothing_left()
    assert stage.row().phase is Phase.STOPPED


async def test_a_target_that_is_busy_is_tried_again() -> None:
    stage = Stage()
    stage.world.refuse["apply"] = [Unavailable("the cloud is busy", "Wait")] * 3
    await stage.start()
    assert (await stage.settle()).phase is Phase.RUNNING
    assert stage.kinds().count("retry") == 1


async def test_a_target_that_refuses_is_failed_with_its_reason() -> None:
    stage = Stage()
    stage.world.refuse["apply"] = [TargetError("no GPU here", "Take it out")]
    await stage.start()
    row = await stage.settle()
    assert row.phase is Phase.FAILED
    assert row.facts.placed_on == ("fake",)
    await stage.stop()
    assert (await stage.settle()).phase is Phase.STOPPED
    assert stage.nothing_left()


async def test_a_defect_is_tried_ten_times_then_failed(caplog: pytest.LogCaptureFixture) -> None:
    stage = Stage()
    stage.world.refuse["observe"] = [ValueError("oops")] * 50  # type: ignore[list-item]
    await stage.start()
    row = await stage.settle()
    assert row.phase is Phase.FAILED
    assert row.facts.problem is not None
    assert row.facts.problem.code == "internal"
    assert stage.world.count("observe") == 10
    assert "Traceback" in caplog.text


async def test_a_program_that_does_not_come_up_is_failed_and_a_fresh_start_tries_again() -> None:
    stage = Stage()
    await stage.start()
    await stage.settle()
    revision = stage.row().facts.revision
    await stage.stop()
    await stage.settle()
    stage.world.broken[str(revision)] = Problem(code="exited", cause="it exited with 1", fix="Read the logs")
    await stage.start()
    row = await stage.settle()
    assert row.phase is Phase.FAILED
    applied = stage.world.count("apply")
    await stage.resync()
    assert stage.world.count("apply") == applied
    stage.world.broken.clear()
    await stage.start()
    assert (await stage.settle()).phase is Phase.RUNNING


async def test_a_failed_service_that_comes_up_by_itself_is_running() -> None:
    stage = Stage()
    await stage.start()
    await stage.settle()
    stage.world.crash(KEY)
    row = await stage.resync()
    assert row.phase is Phase.FAILED
    stage.world.running[KEY][-1].problem = None
    assert (await stage.resync()).phase is Phase.RUNNING
    assert stage.world.count("apply") == 1


async def test_a_service_deleted_behind_our_back_is_healed_and_the_history_says_so() -> None:
    stage = Stage()
    await stage.start()
    await stage.settle()
    for _ in range(2):
        stage.world.vanish(KEY)
        assert (await stage.resync()).phase is Phase.RUNNING
        assert stage.serving() == 1
    assert sum("it is gone" in line for line in stage.story()) == 2


async def test_a_healthy_service_is_looked_at_now_and_then_and_not_written_about() -> None:
    stage = Stage()
    await stage.start()
    await stage.settle()
    count = len(stage.story())
    for _ in range(5):
        before = stage.clock.now()
        await stage.resync()
        assert 0.9 * RESYNC <= stage.clock.now() - before <= 1.1 * RESYNC
    assert len(stage.story()) == count


async def test_a_prebuilt_image_is_used_as_it_is() -> None:
    stage = Stage()
    stage.shop.away = True
    await stage.start(prebuilt())
    row = await stage.settle()
    assert row.phase is Phase.RUNNING
    assert stage.shop.calls == []
    assert stage.world.running[KEY][0].wanted.image_uri == "registry/hello:1"


async def test_from_built_to_prebuilt_the_build_is_left() -> None:
    stage = Stage()
    await stage.start()
    await stage.settle()
    await stage.start(prebuilt())
    row = await stage.settle()
    assert row.facts.build_id is None
    assert all(not build.owners for build in stage.shop.builds.values())


async def test_an_unknown_target_is_failed_with_what_is_available() -> None:
    stage = Stage()
    await stage.start(spec("nowhere"))
    row = await stage.settle()
    assert row.facts.problem is not None
    assert row.facts.problem.code == "target_unavailable"


async def test_an_image_that_was_built_before_is_told_as_such() -> None:
    stage = Stage()
    await stage.start()
    await stage.settle()
    await stage.stop()
    await stage.settle()
    await stage.start()
    await stage.settle()
    assert sum("there already" in line for line in stage.story()) == 1
    assert sum("building the image" in line for line in stage.story()) == 1
    assert stage.shop.made == 1
