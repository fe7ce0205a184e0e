"""`/start` and `/stop`: what is refused at once, and that nothing slow is asked of anyone."""

from __future__ import annotations

from pathlib import Path

import pytest

from cloud_manager.board import Board
from cloud_manager.deployment import Key, Phase, Want
from cloud_manager.errors import DeployError, InvalidSpec, NotFound, Unavailable
from cloud_manager.targets.target import Target
from cloud_manager.use_cases import Deployments
from image_builder.contract import Problem
from tests.cloud_manager.stage import KEY, Shelf
from tests.fakes.clock import ManualClock
from tests.fakes.memory_store import MemoryStore
from tests.fakes.target import FakeTarget, World

GOOD = """
build:
  components: {libs: [flask]}
deploy:
  type: fake
  entrypoint: [main.py]
"""


class Bell:
    def __init__(self) -> None:
        self.rung: list[Key] = []

    def wake(self, key: Key) -> None:
        self.rung.append(key)


class Office:
    def __init__(self, root: Path) -> None:
        self.project = root / "common" / "7" / "42"
        (self.project / "nn_model").mkdir(parents=True)
        (self.project / "nn_model" / "main.py").write_text("print('hello')\n")
        self.store, self.board, self.bell, self.world = MemoryStore(), Board(), Bell(), World()
        targets: dict[str, Target] = {"fake": FakeTarget(self.world)}
        self.deployments = Deployments(self.store, self.board, self.bell, Shelf(targets), ManualClock(), root)

    def write(self, text: str) -> None:
        (self.project / "deployment.yaml").write_text(text)


@pytest.fixture
def office(tmp_path: Path) -> Office:
    office = Office(tmp_path)
    office.write(GOOD)
    return office


async def test_a_start_is_noted_shown_and_the_controller_is_woken(office: Office) -> None:
    await office.deployments.start(KEY)
    row = office.store.memory.rows[KEY]
    assert (row.want, row.phase) == (Want.PRESENT, Phase.STARTED)
    assert office.board.word("7", "42") == b"started"
    assert office.bell.rung == [KEY]
    assert office.world.calls == []


async def test_a_project_that_is_not_there(office: Office) -> None:
    with pytest.raises(NotFound):
        await office.deployments.start(Key("7", "43"))
    with pytest.raises(NotFound):
        await office.deployments.stop(Key("7", "43"))
    assert office.store.memory.rows == {}


async def test_a_file_that_is_wrong_is_refused_and_nothing_is_noted(office: Office) -> None:
    office.write(GOOD.replace("entrypoint", "entripoint"))
    with pytest.raises(InvalidSpec, match="entrypoint"):
        await office.deployments.start(KEY)
    assert office.store.memory.rows == {}
    assert office.bell.rung == []


async def test_missing_files_and_what_the_target_cannot_do_come_in_one_answer(office: Office) -> None:
    office.write(GOOD.replace("main.py", "missing.py"))
    office.world.problems = [
        Problem(code="no_gpu", cause="deploy.resources.gpu: there is no GPU here", fix="Take it out"),
        Problem(code="no_secret", cause="deploy.secrets: KEY is not known", fix="Add it"),
    ]
    with pytest.raises(InvalidSpec) as caught:
        await office.deployments.start(KEY)
    for part in ("missing.py", "no GPU", "KEY is not known", "Take it out", "Add it"):
        assert part in str(caught.value)


async def test_a_missing_file_alone_is_told_with_its_line(office: Office) -> None:
    office.write(GOOD.replace("main.py", "missing.py"))
    with pytest.raises(InvalidSpec, match=r"deployment\.yaml:6:"):
        await office.deployments.start(KEY)


async def test_a_target_that_is_not_here_is_refused_with_those_that_are(office: Office) -> None:
    office.write(GOOD.replace("type: fake", "type: aws-ecs"))
    with pytest.raises(DeployError, match="fake") as caught:
        await office.deployments.start(KEY)
    assert caught.value.problem.code == "target_unavailable"


async def test_a_stop_is_noted_shown_and_the_controller_is_woken(office: Office) -> None:
    await office.deployments.start(KEY)
    await office.deployments.stop(KEY)
    assert office.board.word("7", "42") == b"stopping"
    assert office.bell.rung == [KEY, KEY]


async def test_stopping_what_was_never_started_is_harmless(office: Office) -> None:
    await office.deployments.stop(KEY)
    assert office.store.memory.rows == {}
    assert office.bell.rung == []


async def test_a_stop_needs_no_project_folder_once_it_was_started(office: Office) -> None:
    await office.deployments.start(KEY)
    (office.project / "deployment.yaml").unlink()
    await office.deployments.stop(KEY)
    assert office.board.word("7", "42") == b"stopping"


async def test_a_database_that_does_not_answer_is_an_error_and_shows_no_word(office: Office) -> None:
    office.store.failing = Unavailable("the database does not answer", "Wait")
    with pytest.raises(Unavailable):
        await office.deployments.start(KEY)
    assert office.board.word("7", "42") is None
