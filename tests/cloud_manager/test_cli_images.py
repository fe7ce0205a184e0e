"""`cloud-deploy image` and `dockerfile` against the real builder: what it holds must be readable without curl."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cloud_manager.test_cli import cloud_deploy
from tests.image_builder.service import Service, serving
from tests.image_builder.wheels import make_project


@pytest.fixture(scope="module")
def builder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    folder = tmp_path_factory.mktemp("builder")
    make_project(folder / "shared", {"main.py": "print('hi')\n"})
    with serving(folder / "state", folder / "shared") as service:
        yield service


@pytest.fixture(scope="module")
def build(builder: Service) -> str:
    build_id = str(builder.ask(base_image="scratch")["id"])
    builder.events(build_id)
    return build_id


Said = pytest.CaptureFixture[str]


def test_an_image_is_found_by_its_build_or_its_digest(builder: Service, build: str, capsys: Said) -> None:
    digest = builder.show(build)["image"]["digest"]
    assert cloud_deploy("image", build, "--builder", builder.url) == 0
    by_build = capsys.readouterr().out
    assert cloud_deploy("image", digest, "--builder", builder.url) == 0
    assert capsys.readouterr().out == by_build
    assert digest in by_build and "python main.py" in by_build and "program" in by_build


def test_programs_get_json_and_scanners_a_bill_of_materials(builder: Service, build: str, capsys: Said) -> None:
    assert cloud_deploy("image", build, "--json", "--builder", builder.url) == 0
    shown = json.loads(capsys.readouterr().out)
    assert (shown["platform"], shown["packages"]) == ("linux/amd64", [])
    assert cloud_deploy("image", build, "--sbom", "cyclonedx", "--builder", builder.url) == 0
    assert json.loads(capsys.readouterr().out)["bomFormat"] == "CycloneDX"


def test_the_dockerfile_comes_alone_or_with_all_it_needs(
    builder: Service, build: str, tmp_path: Path, capsys: Said
) -> None:
    assert cloud_deploy("dockerfile", build, "--builder", builder.url) == 0
    text = capsys.readouterr().out
    assert text.endswith('ENTRYPOINT ["python", "main.py"]\n')
    file = tmp_path / "context.tar"
    assert cloud_deploy("dockerfile", build, "--context", file, "--builder", builder.url) == 0
    with tarfile.open(file) as tar:
        assert "program/main.py" in tar.getnames()


@pytest.mark.parametrize("command", ["image", "dockerfile"])
def test_the_builders_own_words_and_the_exit_status(builder: Service, command: str, capsys: Said) -> None:
    """A script must tell a wrong name from a builder that is down."""
    assert cloud_deploy(command, "0" * 32, "--builder", builder.url) == 1
    assert "there is no build" in capsys.readouterr().err
    assert cloud_deploy(command, "../images", "--builder", builder.url) == 1
    capsys.readouterr()
    assert cloud_deploy(command, "0" * 32, "--builder", "http://127.0.0.1:1") == 3
    assert "cloud-deploy up" in capsys.readouterr().err


def test_a_file_that_cannot_be_written_is_named(builder: Service, build: str, tmp_path: Path, capsys: Said) -> None:
    where = tmp_path / "no" / "such.tar"
    assert cloud_deploy("dockerfile", build, "--context", where, "--builder", builder.url) == 1
    assert str(where) in capsys.readouterr().err
