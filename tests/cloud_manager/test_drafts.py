"""A deployment.yaml that is written in a form: judged as `/start` would, put where `/start` reads it."""

from __future__ import annotations

from functools import reduce
from pathlib import Path

import pytest

from cloud_manager.deployment import Key
from cloud_manager.deployment_spec import Deploy, DeploymentSpec
from cloud_manager.drafts import Drafts
from cloud_manager.errors import DeployError, InvalidSpec, NotFound
from cloud_manager.settings import Settings
from cloud_manager.targets.catalog import Catalog
from image_builder.contract import Problem
from tests.fakes.builder import FakeBuilder
from tests.fakes.clock import ManualClock
from tests.fakes.target import FakeTarget

KEY = Key("7", "42")
GOOD = b"deploy:\n  type: fake\n  entrypoint: [server.py]\n  region: mars\n"


class OneTarget:
    def __init__(self) -> None:
        self.target = FakeTarget()

    def get(self, name: str, /) -> FakeTarget:
        if name != "fake":
            raise InvalidSpec(f"deploy.type {name} is not available here", "choose fake", code="target_unavailable")
        return self.target


@pytest.fixture
def targets() -> OneTarget:
    return OneTarget()


@pytest.fixture
def drafts(targets: OneTarget, tmp_path: Path) -> Drafts:
    (tmp_path / "common").mkdir()
    return Drafts(targets, tmp_path)


def program(root: Path) -> None:
    (root / "common/7/42/nn_model").mkdir(parents=True)
    (root / "common/7/42/nn_model/server.py").write_text("")


async def test_a_text_is_judged_before_it_is_a_file(drafts: Drafts, targets: OneTarget) -> None:
    """Else one must save what is wrong to learn that it is."""
    wrong = await drafts.judge(b"deploy:\n  typ: fake\n")
    assert not wrong.good and [finding.line for finding in wrong.findings] == [2, 2, 2]
    judged = await drafts.judge(GOOD)
    assert judged.good and judged.target == "fake" and judged.notes
    assert [(finding.path, finding.line, finding.message) for finding in judged.ignored] == [
        ("deploy.region", 4, "means nothing to fake")
    ]
    targets.target.world.problems.append(Problem(code="x", cause="too large", fix="smaller"))
    assert [problem.cause for problem in (await drafts.judge(GOOD)).problems] == ["too large"]
    elsewhere = await drafts.judge(GOOD.replace(b"fake", b"aws-ecs"))
    assert not elsewhere.good and elsewhere.problems[0].code == "target_unavailable"


async def test_with_a_project_its_files_are_judged_too(drafts: Drafts, tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        await drafts.judge(GOOD, KEY)
    program(tmp_path)
    assert (await drafts.judge(GOOD, KEY)).good
    missing = await drafts.judge(GOOD.replace(b"server", b"sever"), KEY)
    assert "did you mean 'server.py'" in missing.findings[0].message


async def test_what_is_written_is_what_start_reads(drafts: Drafts, tmp_path: Path) -> None:
    program(tmp_path)
    file = tmp_path / "common/7/42/deployment.yaml"
    file.write_text("old")
    file.chmod(0o640)
    assert (await drafts.write(KEY, GOOD)).good
    assert await drafts.read(KEY) == (GOOD, await drafts.judge(GOOD, KEY))
    assert file.stat().st_mode & 0o777 == 0o640
    assert sorted(path.name for path in file.parent.iterdir()) == ["deployment.yaml", "nn_model"], (
        "nothing half-written is left"
    )


async def test_what_is_wrong_replaces_nothing(drafts: Drafts, tmp_path: Path) -> None:
    program(tmp_path)
    await drafts.write(KEY, GOOD)
    for text in (b"deploy: [", GOOD.replace(b"server", b"gone"), b"\xff"):
        with pytest.raises(InvalidSpec):
            await drafts.write(KEY, text)
    assert (await drafts.read(KEY))[0] == GOOD


async def test_a_new_project_gets_its_folder_and_a_wrong_text_none(drafts: Drafts, tmp_path: Path) -> None:
    prebuilt = b"build: {image_uri: docker.io/library/hello:1}\ndeploy: {type: fake}\n"
    with pytest.raises(InvalidSpec):
        await drafts.write(Key("8", "1"), b"deploy: {}\n")
    assert not (tmp_path / "common/8").exists()
    await drafts.write(Key("8", "1"), prebuilt)
    assert (tmp_path / "common/8/1/deployment.yaml").read_bytes() == prebuilt


async def test_nothing_is_written_outside_the_shared_folder(drafts: Drafts, tmp_path: Path) -> None:
    """A link in place of a folder would let one user write another's files, or the machine's."""
    outside = tmp_path / "outside"
    (outside / "42/nn_model").mkdir(parents=True)
    (outside / "42/nn_model/server.py").write_text("")
    (tmp_path / "common/7").symlink_to(outside)
    with pytest.raises(NotFound, match="outside"):
        await drafts.write(KEY, GOOD)
    (tmp_path / "common/8").mkdir()
    (tmp_path / "common/8/42").symlink_to(outside / "42")
    with pytest.raises(NotFound, match="outside"):
        await drafts.write(Key("8", "42"), GOOD)
    (tmp_path / "common/8/1").mkdir()
    target = outside / "victim"
    target.write_text("mine")
    (tmp_path / "common/8/1/server.py").write_text("")
    (tmp_path / "common/8/1/deployment.yaml").symlink_to(target)
    await drafts.write(Key("8", "1"), GOOD)
    assert target.read_text() == "mine" and not (tmp_path / "common/8/1/deployment.yaml").is_symlink()


async def test_a_disk_that_cannot_be_written_says_what_to_do(drafts: Drafts, tmp_path: Path) -> None:
    """In the container the shared disk is often mounted read-only."""
    program(tmp_path)
    (tmp_path / "common/9").write_text("a file where a folder must be")
    with pytest.raises(DeployError) as caught:
        await drafts.write(Key("9", "1"), GOOD)
    assert caught.value.problem.code == "read_only" and "user that the manager runs as" in caught.value.problem.fix


@pytest.mark.parametrize("name", ["local", "docker", "gcp-cloudrun"])
def test_every_target_knows_what_means_nothing_to_it(name: str, tmp_path: Path) -> None:
    """The form greys these fields out: one that is spelt wrong here would promise what nobody does."""
    settings = Settings(state_dir=tmp_path, shared_root=tmp_path, local_target=True)
    ignores = Catalog(settings, FakeBuilder(), ManualClock()).get(name).ignores
    for path in ignores:
        reduce(getattr, path.split("."), DeploymentSpec(deploy=Deploy(type=name)))
