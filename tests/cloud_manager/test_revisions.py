"""Revisions and rollback as people meet them: over HTTP, on the command line, and what the use case refuses."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import requests

from cloud_manager.cli.main import main
from cloud_manager.deployment import Key, Phase
from cloud_manager.errors import DeployError, NotFound
from cloud_manager.store.protocol import Store
from cloud_manager.use_cases import Deployments
from image_builder.contract import Problem
from tests.cloud_manager.canned_manager import CannedManager, row, serving
from tests.cloud_manager.face import PROJECT, Face, image, served
from tests.cloud_manager.stage import KEY, Stage

ONE = "/api/v1/deployments/7/42"


@pytest.fixture
def face() -> Iterator[Face]:
    with served() as face:
        yield face


@pytest.fixture
def manager() -> Iterator[CannedManager]:
    with serving(CannedManager()) as canned:
        yield canned


def runs(face: Face, revision: str) -> None:
    """The project is seen to run this."""
    face.know(Phase.RUNNING)

    async def settle(store: Store) -> None:
        async with store.own(PROJECT) as known:
            assert known is not None
            facts = known.facts.model_copy(update={"revision": revision, "image": image(), "stage": "applied"})
            facts = facts.model_copy(update={"generation": known.generation})
            await store.save(replace(known, facts=facts), now=200.0, serving=True)

    face.do(settle(face.store))


# --- HTTP -------------------------------------------------------------------------------------------------------


def test_what_ran_well_is_listed_with_its_spec(face: Face) -> None:
    """Else the page could not show what a rollback would change."""
    runs(face, "11" * 8)
    runs(face, "22" * 8)
    new, old = requests.get(f"{face.url}{ONE}/revisions", timeout=10).json()["items"]
    assert (old["revision"], old["generation"], old["target"], old["until"]) == ("11" * 8, 1, "local", 200.0)
    assert old["image"]["digest"] == image().digest
    assert old["spec"]["deploy"]["type"] == "local"
    assert (new["revision"], new["since"], new["until"]) == ("22" * 8, 200.0, None)


@pytest.mark.parametrize(("query", "asked"), [("", None), ("?revision=0f3a", "0f3a")])
def test_a_rollback_answers_at_once(face: Face, query: str, asked: str | None) -> None:
    face.know(Phase.RUNNING)
    answer = requests.post(f"{face.url}{ONE}/rollback{query}", timeout=10)
    assert (answer.status_code, answer.json()["phase"]) == (202, "running")
    assert face.deployments.calls == [(f"rollback {asked}", PROJECT)]


def test_a_page_of_another_origin_rolls_nothing_back(face: Face) -> None:
    face.know(Phase.RUNNING)
    answer = requests.post(f"{face.url}{ONE}/rollback", headers={"Sec-Fetch-Site": "cross-site"}, timeout=10)
    assert (answer.status_code, face.deployments.calls) == (403, [])


def test_what_others_changed_is_told(face: Face) -> None:
    """Else the page could not show it."""
    face.know(Phase.RUNNING, drift=("its environment was changed",))
    assert requests.get(f"{face.url}{ONE}", timeout=10).json()["drift"] == ["its environment was changed"]


# --- the command line -------------------------------------------------------------------------------------------


def cloud_deploy(*words: object) -> int:
    with pytest.raises(SystemExit) as ended:
        main([str(word) for word in words])
    return int(ended.value.code or 0)


def good(revision: str, **changes: Any) -> dict[str, Any]:
    return {
        "revision": revision,
        "wanted": False,
        "generation": 1,
        "target": "docker",
        "image": None,
        "image_uri": "r/hello:1",
        "resolved_uri": None,
        "since": 1767225600.0,
        "until": None,
        **changes,
    }


def test_revisions_are_a_table_that_marks_the_present_one(
    manager: CannedManager, capsys: pytest.CaptureFixture[str]
) -> None:
    digest = "sha256:" + "4f" * 32
    manager.good = [good("22" * 8, wanted=True, image={"digest": digest}), good("11" * 8, until=1767225700.0)]
    assert cloud_deploy("revisions", "7", "42", "--url", manager.url) == 0
    head, new, old = capsys.readouterr().out.splitlines()
    assert head.split() == ["REVISION", "GENERATION", "TARGET", "SINCE", "UNTIL", "IMAGE"]
    assert new.split()[:2] == ["*", "22" * 8]
    assert new.split()[-1] == digest[:19]
    assert (old.split()[0], old.split()[-1]) == ("11" * 8, "r/hello:1")


def test_a_project_that_never_ran_has_no_revisions(manager: CannedManager, capsys: pytest.CaptureFixture[str]) -> None:
    assert cloud_deploy("revisions", "7", "42", "--url", manager.url) == 0
    assert "nothing of this project has run well yet" in capsys.readouterr().err


def test_rollback_names_the_revision_and_waits(manager: CannedManager, capsys: pytest.CaptureFixture[str]) -> None:
    manager.rows = [row("started"), row("preparing"), row("running")]
    assert cloud_deploy("rollback", "7", "42", "--to", "0f3a", "--wait", "--url", manager.url) == 0
    assert manager.calls[0] == "POST /api/v1/deployments/7/42/rollback?revision=0f3a"
    assert capsys.readouterr().out == "running at http://127.0.0.1:41231\n"


def test_a_rollback_that_fails_is_an_exit_status(manager: CannedManager) -> None:
    manager.rows = [row("started"), row("failed")]
    assert cloud_deploy("rollback", "7", "42", "--wait", "--url", manager.url) == 1
    assert manager.calls[0] == "POST /api/v1/deployments/7/42/rollback"


# --- the use case -----------------------------------------------------------------------------------------------


class Waker:
    def __init__(self) -> None:
        self.woken: list[Key] = []

    def wake(self, key: Key) -> None:
        self.woken.append(key)


def deployments(stage: Stage, waker: Waker) -> Deployments:
    return Deployments(stage.wishes, stage.board, waker, stage.targets, stage.clock, Path("/nowhere"))


async def test_a_rollback_reads_none_of_the_projects_files() -> None:
    """There is no such folder here, as when somebody has deleted it: what ran can still be brought back."""
    stage, waker = Stage(), Waker()
    await stage.start()
    old = (await stage.settle()).facts.revision
    stage.change_files("v2")
    await stage.start()
    await stage.settle()
    await deployments(stage, waker).rollback(KEY)
    assert waker.woken == [KEY]
    assert stage.board.word("7", "42") == b"started"
    row = await stage.settle()
    assert (row.phase, row.facts.revision) == (Phase.RUNNING, old)


async def test_what_the_target_cannot_do_any_more_is_refused_at_once() -> None:
    stage, waker = Stage(), Waker()
    await stage.start()
    await stage.settle()
    stage.change_files("v2")
    await stage.start()
    await stage.settle()
    stage.world.problems = [Problem(code="unsupported_by_target", cause="no GPU here", fix="Take it out")]
    with pytest.raises(DeployError, match="no GPU here"):
        await deployments(stage, waker).rollback(KEY)
    assert waker.woken == []
    with pytest.raises(NotFound, match="never started"):
        await deployments(stage, waker).rollback(Key("7", "none"))
