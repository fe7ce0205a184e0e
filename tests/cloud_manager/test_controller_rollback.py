"""A rollback, step by step: what ran well runs again as it was, without the files and without the builder."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cloud_manager.deployment import Deployment, Phase
from cloud_manager.errors import Conflict, DeployError, NotFound, TargetError
from cloud_manager.revisions import chosen, revision_wanted
from image_builder.contract import Problem
from tests.cloud_manager.stage import KEY, Stage, prebuilt, spec

BAD = Problem(code="exited", cause="it exited with 1", fix="Read the logs")


async def updated(stage: Stage) -> tuple[str, str]:
    """Two good revisions: the older, and the one that serves."""
    await stage.start()
    old = str((await stage.settle()).facts.revision)
    stage.change_files("v2")
    await stage.start()
    return old, str((await stage.settle()).facts.revision)


def serves(stage: Stage) -> str:
    serving = stage.world.serving(KEY)
    assert serving is not None
    return serving.wanted.revision


async def test_the_last_good_revision_comes_back_without_a_gap_and_without_a_build() -> None:
    stage = Stage()
    stage.world.pending_looks = 2
    old, new = await updated(stage)
    asked, told = stage.shop.count("submit"), len(stage.memory.events)
    await stage.rollback()
    seen: list[Phase] = [stage.row().phase]
    while stage.row().facts.settled_generation < 3:
        row = await stage.step()
        assert stage.world.serving(KEY) is not None
        seen += [row.phase] if row.phase is not seen[-1] else []
    assert seen == [Phase.STARTED, Phase.PREPARING, Phase.RUNNING]
    assert serves(stage) == old != new
    assert stage.shop.count("submit") == asked
    words = [" ".join(line.split()[:4]) for line in stage.story(since=told)]
    assert words == [
        "rollback: rollback asked for:",
        "build: nothing to build:",
        "target: updating the service",
        "phase: running at http://7.42.fake",
    ]


async def test_spec_and_image_come_back_as_they_were_though_all_files_have_changed() -> None:
    stage = Stage()
    await stage.start(spec(env={"GREETING": "one"}))
    await stage.settle()
    before = stage.world.running[KEY][0].wanted
    stage.change_files("v2")
    await stage.start(spec(env={"GREETING": "two"}))
    await stage.settle()
    stage.change_files("v3")
    await stage.rollback()
    await stage.settle()
    after = stage.world.running[KEY][0].wanted
    assert (after.spec, after.image, after.revision) == (before.spec, before.image, before.revision)


async def test_a_failed_deployment_is_rolled_back_to_what_still_serves() -> None:
    stage = Stage()
    await stage.start()
    good = str((await stage.settle()).facts.revision)
    starts = stage.world.starts
    await stage.start(prebuilt("registry/broken:1"))
    stage.world.broken["registry/broken:1"] = BAD
    assert (await stage.settle()).phase is Phase.FAILED
    await stage.rollback()
    row = await stage.settle()
    assert row.phase is Phase.RUNNING
    assert (row.facts.revision, serves(stage), row.facts.problem) == (good, good, None)
    assert stage.world.starts == starts + 2, "the broken one, and the good one beside it"


async def test_a_build_that_failed_is_rolled_back_to_what_serves() -> None:
    stage = Stage()
    await stage.start()
    good = str((await stage.settle()).facts.revision)
    stage.shop.broken = [BAD]
    stage.change_files("v2")
    await stage.start()
    assert (await stage.settle()).phase is Phase.FAILED
    await stage.rollback()
    assert (await stage.settle()).phase is Phase.RUNNING
    assert (serves(stage), stage.world.starts) == (good, 1)


async def test_start_after_a_rollback_deploys_the_files_as_they_are_now() -> None:
    stage = Stage()
    old, new = await updated(stage)
    await stage.rollback()
    await stage.settle()
    await stage.start()
    await stage.settle()
    assert serves(stage) == new
    await stage.rollback(old[:6])
    await stage.settle()
    stage.change_files("v3")
    await stage.start()
    await stage.settle()
    assert serves(stage) not in (old, new)


async def test_a_build_under_way_is_given_up_by_a_rollback() -> None:
    stage = Stage()
    old, _ = await updated(stage)
    stage.shop.looks = 1000
    stage.change_files("v3")
    await stage.start()
    await stage.until(Phase.BUILDING)
    assert stage.shop.in_flight()
    await stage.rollback(old)
    row = await stage.settle()
    assert (row.phase, serves(stage)) == (Phase.RUNNING, old)
    assert stage.shop.in_flight() == []
    assert row.facts.build_id is row.facts.asking is None


async def test_an_image_that_is_gone_is_told_and_not_built_from_the_files_of_today() -> None:
    stage = Stage()
    old, new = await updated(stage)
    stage.shop.lose_images()
    asked = stage.shop.count("submit")
    await stage.rollback()
    row = await stage.settle()
    assert row.phase is Phase.FAILED
    assert row.facts.problem is not None
    assert row.facts.problem.code == "image_gone"
    assert old in row.facts.problem.cause
    assert "start the project" in row.facts.problem.fix
    assert stage.shop.count("submit") == asked
    assert serves(stage) == new, "what serves goes on"


async def test_what_serves_and_the_last_good_one_survive_the_clearing_of_the_builders_cache() -> None:
    """Else a full disk would take the way back, and a healed service would be built from the files of today."""
    stage = Stage()
    await stage.start()
    await stage.settle()
    old, new = await updated(stage)
    stage.shop.clear_images()
    await stage.rollback()
    assert (await stage.settle()).phase is Phase.RUNNING
    assert serves(stage) == old
    stage.shop.clear_images()
    await stage.rollback()
    assert (await stage.settle()).phase is Phase.RUNNING
    assert serves(stage) == new
    await stage.stop()
    await stage.settle()
    assert stage.shop.kept["7/42"] == (), "a stopped project holds no disk"


async def test_a_builder_that_is_away_when_an_image_is_to_be_kept_is_told_later() -> None:
    stage = Stage()
    await stage.start()
    await stage.until(Phase.PREPARING)
    stage.shop.away = True
    await stage.until(Phase.RUNNING)
    await stage.step()
    assert stage.row().phase is Phase.RUNNING
    stage.shop.away = False
    row = await stage.settle()
    assert stage.shop.kept["7/42"] == row.facts.kept == (row.facts.image.digest if row.facts.image else "",)
    assert row.facts.problem is None


async def test_a_rollback_that_fails_leaves_what_serves_and_can_be_taken_back() -> None:
    stage = Stage()
    old, new = await updated(stage)
    stage.world.broken[old] = BAD
    await stage.rollback()
    row = await stage.settle()
    assert (row.phase, serves(stage)) == (Phase.FAILED, new)
    await stage.rollback()
    assert (await stage.settle()).phase is Phase.RUNNING
    assert serves(stage) == new


async def test_a_stopped_project_comes_back_as_it_last_ran() -> None:
    stage = Stage()
    _, new = await updated(stage)
    await stage.stop()
    await stage.settle()
    await stage.rollback()
    assert (await stage.settle()).phase is Phase.RUNNING
    assert serves(stage) == new


async def test_a_rollback_to_another_target_moves_the_service() -> None:
    stage = Stage()
    await stage.start(spec("other"))
    await stage.settle()
    await stage.start(spec("fake"))
    await stage.settle()
    await stage.rollback()
    row = await stage.settle()
    assert (row.facts.placed_on, stage.serving("fake"), stage.serving("other")) == (("other",), 0, 1)


async def test_a_prebuilt_image_is_brought_back() -> None:
    stage = Stage()
    for tag in ("1", "2"):
        await stage.start(prebuilt(f"registry/hello:{tag}"))
        await stage.settle()
    await stage.rollback()
    await stage.settle()
    assert stage.world.running[KEY][0].wanted.image_uri == "registry/hello:1"


async def test_a_tag_is_brought_back_as_the_image_that_it_was() -> None:
    """Else a rollback would run what the tag means today: perhaps the very image that is to be got rid of."""
    stage = Stage()
    stage.world.digests["registry/hello:latest"] = f"registry/hello@sha256:{'a' * 64}"
    await stage.start(prebuilt("registry/hello:latest"))
    row = await stage.settle()
    assert row.facts.resolved_uri == f"registry/hello@sha256:{'a' * 64}"
    assert f"build: registry/hello:latest is registry/hello@sha256:{'a' * 64}" in stage.story()
    first = row.facts.revision
    stage.world.digests["registry/hello:latest"] = f"registry/hello@sha256:{'b' * 64}"
    await stage.start(prebuilt("registry/hello:2"))
    await stage.settle()
    await stage.rollback()
    row = await stage.settle()
    assert stage.world.running[KEY][0].wanted.image_uri == f"registry/hello@sha256:{'a' * 64}"
    assert row.facts.revision == first
    assert (await stage.wishes.revisions(KEY))[0].image_uri == "registry/hello:latest", "as the file has it"


async def test_a_target_that_cannot_tell_the_digest_fails_nothing() -> None:
    stage = Stage()
    stage.world.refuse["resolved"] = [TargetError("the registry is away", "Wait")]
    await stage.start(prebuilt())
    row = await stage.settle()
    assert (row.phase, row.facts.resolved_uri) == (Phase.RUNNING, None)


async def test_a_service_rolled_back_is_healed_to_the_same_revision() -> None:
    stage = Stage()
    old, _ = await updated(stage)
    await stage.rollback()
    await stage.settle()
    stage.world.vanish(KEY)
    row = await stage.resync()
    assert (row.phase, serves(stage)) == (Phase.RUNNING, old)


async def test_asked_twice_while_it_is_under_way_it_goes_back_once() -> None:
    """A second click is no wish for the revision before."""
    stage = Stage()
    old, _ = await updated(stage)
    stage.world.pending_looks = 100
    await stage.rollback()
    await stage.until(Phase.PREPARING)
    await stage.rollback()
    assert stage.row().phase is Phase.PREPARING
    stage.world.pending_looks = 0
    await stage.settle()
    assert serves(stage) == old


async def test_what_is_wanted_now_is_known_in_every_phase() -> None:
    stage = Stage()
    old, new = await updated(stage)
    assert revision_wanted(stage.row()) == new
    await stage.rollback()
    assert revision_wanted(stage.row()) == old
    await stage.stop()
    assert revision_wanted(stage.row()) is None
    await stage.settle()
    await stage.start()
    assert revision_wanted(stage.row()) is None, "its image is not known yet"


async def refusal(stage: Stage, to: str | None = None) -> DeployError:
    with pytest.raises(DeployError) as caught:
        await stage.rollback(to)
    return caught.value


async def test_without_a_revision_before_there_is_nothing_to_go_back_to() -> None:
    stage = Stage()
    await stage.start()
    assert (await refusal(stage)).problem.code == "no_revision"
    row: Deployment = await stage.settle()
    error = await refusal(stage)
    assert isinstance(error, Conflict)
    assert error.problem.code == "no_revision"
    unknown = await refusal(stage, "ffff")
    assert isinstance(unknown, NotFound)
    assert str(row.facts.revision) in unknown.problem.fix
    assert unknown.problem.code == "revision_unknown"
    await updated(stage)
    alike = [replace(one, revision=f"aa{number}") for number, one in enumerate(await stage.wishes.revisions(KEY))]
    with pytest.raises(NotFound, match="more than one revision"):
        chosen(stage.row(), alike, "aa")
    foreign = [replace(one, spec=None) for one in alike]
    with pytest.raises(Conflict, match="another release"):
        chosen(stage.row(), foreign, "aa1")
