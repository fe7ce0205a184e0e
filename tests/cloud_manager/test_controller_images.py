"""The builder keeps images as long as it has room: one that is gone is built again when it is needed."""

from __future__ import annotations

from cloud_manager.decide import MOST_LOST_IMAGES
from cloud_manager.deployment import Phase
from cloud_manager.errors import DeployError
from tests.cloud_manager.stage import KEY, Stage

GONE = "build: the image is gone from the builder's store; it is built again"


async def running_stage() -> Stage:
    stage = Stage()
    await stage.start()
    await stage.settle()
    return stage


async def test_a_service_is_put_back_though_its_image_was_cleared_away() -> None:
    """Otherwise whoever restarts a machine has to start each project by hand."""
    stage = await running_stage()
    stage.shop.lose_images()
    stage.world.vanish(KEY)
    row = await stage.resync()
    assert row.phase is Phase.RUNNING and stage.serving() == 1
    assert stage.shop.made == 2
    assert stage.story().count(GONE) == 1
    told = [" ".join(line.split()[:4]) for line in stage.story()[stage.story().index(GONE) :]]
    assert told == [
        "build: the image is",
        "build: the image is",
        "target: starting the service",
        "phase: running at http://7.42.fake",
    ], stage.story()


async def test_it_is_called_building_meanwhile() -> None:
    """Otherwise a person waits for a service that seems to hang while it is prepared."""
    stage = await running_stage()
    stage.shop.lose_images()
    stage.shop.looks = 3
    stage.world.vanish(KEY)
    await stage.step()
    row = await stage.step()
    assert row.phase is Phase.BUILDING and row.facts.stage in ("new", "asked")
    assert row.facts.problem is None


async def test_a_builder_that_loses_every_image_is_not_asked_for_ever() -> None:
    """Otherwise a cache that is too small for one image builds it for ever."""
    stage = await running_stage()
    stage.world.pull = lambda image: (stage.shop.lose_images(), stage.shop.pull(image))
    stage.world.vanish(KEY)
    row = await stage.resync()
    assert row.phase is Phase.FAILED
    assert row.facts.problem is not None and row.facts.problem.code == "blob_unknown"
    assert stage.shop.made == 1 + MOST_LOST_IMAGES
    stage.world.pull = stage.shop.pull
    await stage.start()
    assert (await stage.settle()).phase is Phase.RUNNING


async def test_losses_are_counted_from_the_last_time_it_ran() -> None:
    """Otherwise a project that lives long fails in the end, though each loss was mended."""
    stage = await running_stage()
    for _ in range(MOST_LOST_IMAGES + 2):
        stage.shop.lose_images()
        stage.world.vanish(KEY)
        assert (await stage.resync()).phase is Phase.RUNNING


async def test_what_else_a_target_refuses_is_no_reason_to_build_again() -> None:
    """Otherwise a mistake that stays is answered by building, over and over."""
    stage = await running_stage()
    stage.world.refuse["apply"] = [DeployError("no", "Mend it", code="target_failed")]
    stage.world.vanish(KEY)
    assert (await stage.resync()).phase is Phase.FAILED
    assert stage.shop.made == 1
