"""A changed secret: the next start updates the service, and nobody learns the value on the way."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cloud_manager.api_models import DeploymentAnswer
from cloud_manager.deployment import Phase
from cloud_manager.errors import TargetError
from cloud_manager.targets.secret_files import mark_of
from tests.cloud_manager.stage import Stage, spec

WANTED = spec(secrets={"API_KEY": "key"})


async def running() -> Stage:
    stage = Stage()
    stage.world.secrets["key"] = "old"
    await stage.start(WANTED)
    await stage.settle()
    return stage


async def test_a_start_after_a_changed_secret_is_an_update() -> None:
    stage = await running()
    first = stage.row().facts.revision
    stage.world.secrets["key"] = "new"
    await stage.resync()
    assert stage.world.starts == 1, "nobody asked for it yet"
    await stage.start(WANTED)
    row = await stage.settle()
    assert (row.phase, stage.world.starts) == (Phase.RUNNING, 2)
    assert row.facts.revision != first
    assert stage.shop.made == 1


async def test_a_start_with_the_same_secret_changes_nothing() -> None:
    stage = await running()
    stage.restart()
    await stage.start(WANTED)
    await stage.settle()
    assert stage.world.starts == 1
    assert stage.story()[-1] == "note: nothing has changed: the service goes on as it was"


async def test_a_rollback_keeps_the_name_of_the_revision_with_the_secrets_of_today() -> None:
    stage = await running()
    first = stage.row().facts.revision
    stage.change_files("v2")
    stage.world.secrets["key"] = "new"
    await stage.start(WANTED)
    await stage.settle()
    await stage.rollback()
    assert (await stage.settle()).facts.revision == first


async def test_neither_salt_nor_mark_is_told() -> None:
    stage = await running()
    facts = stage.row().facts
    assert len(facts.secrets_salt) == 32
    told = json.dumps(DeploymentAnswer.of(stage.row(), None).model_dump(mode="json")) + "".join(stage.story())
    assert facts.secrets_salt not in told
    assert facts.secrets_mark not in told


def test_a_mark_changes_with_the_value_and_with_the_salt(tmp_path: Path) -> None:
    """Without the salt a short secret could be guessed from the name of a revision."""
    (tmp_path / "key").write_text("old\n")
    first = mark_of(tmp_path, WANTED, "00" * 16)
    assert first == mark_of(tmp_path, WANTED, "00" * 16)
    assert first != mark_of(tmp_path, WANTED, "11" * 16)
    (tmp_path / "key").write_text("new\n")
    assert first != mark_of(tmp_path, WANTED, "00" * 16)
    (tmp_path / "key").unlink()
    with pytest.raises(TargetError, match="API_KEY"):
        mark_of(tmp_path, WANTED, "00" * 16)
