"""`cloud-deploy build` against the real builder and a real registry."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from cloud_manager.cli.builder_api import Builder
from tests.base_image import tiny_base
from tests.cloud_manager.canned_manager import serving_app
from tests.cloud_manager.test_cli import cloud_deploy
from tests.image_builder.service import Service, serving

YAML = "build:\n  base_image: {base}\ndeploy:\n  type: local\n  entrypoint: [app.py]\n"


@pytest.fixture
def shared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SHARED_ROOT", str(tmp_path / "shared"))
    project = tmp_path / "shared" / "common" / "7" / "42"
    project.mkdir(parents=True)
    (project / "app.py").write_text("print('hello')\n")
    return project


@pytest.fixture
def builder(shared: Path, tmp_path: Path) -> Iterator[Service]:
    with serving(tmp_path / "state", tmp_path / "shared") as service:
        yield service


def test_a_folder_becomes_an_image_in_a_registry(
    builder: Service, shared: Path, registry: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Otherwise an image needs a manager, or knowledge of the builder's API."""
    name = secrets.token_hex(4)
    (shared / "deployment.yaml").write_text(YAML.format(base=tiny_base(registry, f"{name}/base")))
    words = ["build", shared, "--push", f"{registry}/{name}/model:1", "--builder", builder.url]
    assert cloud_deploy(*words) == 0
    printed = capsys.readouterr()
    image, cost = printed.out.splitlines()
    assert image.startswith(f"{registry}/{name}/model@sha256:")
    assert "uploaded" in cost and "mounted" in cost and cost.endswith(" s")
    digest = image.partition("@")[2]
    url = f"http://{registry}/v2/{name}/model/manifests/1"
    accept = {"Accept": "application/vnd.oci.image.manifest.v1+json"}
    assert httpx.head(url, headers=accept, trust_env=False).headers["docker-content-digest"] == digest

    assert cloud_deploy(*words, "--json") == 0
    status = json.loads(capsys.readouterr().out)
    assert status["image"]["pushed"] == image and status["summary"]["uploaded"] == 0
    assert status["base"].startswith(f"{registry}/{name}/base@sha256:")


def test_options_win_over_the_file(
    builder: Service, shared: Path, registry: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (shared / "deployment.yaml").write_text(YAML.format(base="scratch"))
    base = tiny_base(registry, secrets.token_hex(4), architectures=("arm64",))
    words = ["--base", base, "--platform", "linux/arm64", "--python", "3.11", "--json", "--builder", builder.url]
    assert cloud_deploy("build", shared, *words) == 0
    assert json.loads(capsys.readouterr().out)["base"].startswith(base.rpartition(":")[0])


def test_a_build_that_fails_says_why(
    builder: Service, shared: Path, registry: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (shared / "deployment.yaml").write_text(YAML.format(base=tiny_base(registry, secrets.token_hex(4), [{"x": b""}])))
    assert cloud_deploy("build", shared, "--builder", builder.url) == 1
    assert "has no python 3.11" in capsys.readouterr().err


def test_what_the_builder_cannot_read_is_told_at_once(
    shared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cloud_deploy("build", tmp_path, "--builder", "http://127.0.0.1:1") == 1
    assert f"is not below the shared root {tmp_path / 'shared'}" in capsys.readouterr().err
    (shared / "deployment.yaml").write_text("build:\n  image_uri: a/b:1\ndeploy:\n  type: docker\n")
    assert cloud_deploy("build", shared, "--builder", "http://127.0.0.1:1") == 1
    assert "built already" in capsys.readouterr().err


def test_a_silent_step_does_not_end_the_command() -> None:
    """The builder fills silence with comments; a download of half a minute ended in a traceback."""

    async def told(_: Request) -> Response:
        text = 'id: 1\ndata: {"sequence": 1}\n\n: still here\n\nid: 2\ndata: {"sequence": 2}\n\n'
        return Response(text, media_type="text/event-stream")

    with serving_app(Starlette(routes=[Route("/events", told)])) as url, Builder(url) as opened:
        assert list(opened.stream("/events")) == [{"sequence": 1}, {"sequence": 2}]
