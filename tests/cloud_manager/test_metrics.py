"""What Prometheus reads of the manager."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import requests
from prometheus_client.parser import text_string_to_metric_families

from cloud_manager.board import Board
from cloud_manager.clock import SystemClock
from cloud_manager.deployment import Deployment, Facts, Key, Phase, Want
from cloud_manager.deployment_spec import Deploy, DeploymentSpec
from cloud_manager.errors import Unavailable
from cloud_manager.metrics import Metrics
from cloud_manager.store.open import open_store
from cloud_manager.targets.docker_engine import Engine
from image_builder.contract import Problem
from tests.cloud_manager.face import Face, served
from tests.cloud_manager.stage import Stage

Samples = dict[tuple[str, ...], float]


@pytest.fixture(scope="module")
def face() -> Iterator[Face]:
    with served() as face:
        yield face


def samples(text: str) -> Samples:
    """By name and the values of the labels, in the order of their names."""
    return {
        (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def scraped(face: Face) -> Samples:
    answer = requests.get(f"{face.url}/metrics", timeout=10)
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    return samples(answer.text)


def row(number: int, phase: Phase, target: str = "docker", updated: float = 1.0) -> Deployment:
    spec = DeploymentSpec(deploy=Deploy(type=target))  # type: ignore[arg-type]
    key = Key("7", str(number))
    return Deployment(
        key=key,
        want=Want.PRESENT,
        generation=1,
        spec=spec,
        spec_digest="",
        origins={},
        phase=phase,
        facts=Facts(),
        token=0,
        due=0.0,
        tries=0,
        created=0.0,
        updated=updated,
    )


def test_projects_are_counted_by_word_and_target(face: Face) -> None:
    """How many have failed, and where, is what an operator is called for."""
    face.know(Phase.RUNNING, Key("7", "1"))
    face.know(Phase.RUNNING, Key("7", "2"))
    face.know(Phase.FAILED, Key("7", "3"))
    found = scraped(face)
    assert found["cloud_deploy_deployments", "running", "local"] == 2
    assert found["cloud_deploy_deployments", "failed", "local"] == 1
    face.know(Phase.STOPPED, Key("7", "2"))
    assert scraped(face)["cloud_deploy_deployments", "running", "local"] == 1


def test_a_project_is_counted_once_however_often_it_is_written() -> None:
    board, metrics = Board(), Metrics()
    metrics.show(board)
    board.put([row(number, Phase.STARTED) for number in range(10_000)])
    board.put([row(number, Phase.RUNNING, updated=2.0) for number in range(10_000)])
    board.put([row(3, Phase.FAILED, updated=1.5)])
    board.put([replace(row(4, Phase.RUNNING, "local", updated=3.0), facts=Facts(url="http://x"))])
    text = metrics.text().decode()
    found = samples(text)
    assert found["cloud_deploy_deployments", "running", "docker"] == 9_999
    assert found["cloud_deploy_deployments", "running", "local"] == 1
    assert found["cloud_deploy_deployments", "started", "docker"] == 0
    assert len(text) < 20_000, "what is scraped must not grow with the projects"


def test_calls_are_counted_by_route_and_name_no_project(face: Face) -> None:
    before = scraped(face)
    for project in ("here", "there"):
        requests.get(f"{face.url}/api/v1/deployments/7/{project}", timeout=10)
        requests.get(f"{face.url}/nothing/{project}", timeout=10)
    requests.request("BREW", f"{face.url}/start", timeout=10)
    text = requests.get(f"{face.url}/metrics", timeout=10).text
    found = samples(text)
    route = ("cloud_deploy_http_requests_total", "GET", "/api/v1/deployments/{user_id}/{project_id}", "404")
    assert found[route] - before.get(route, 0) == 2
    assert found["cloud_deploy_http_requests_total", "GET", "other", "404"] >= 2
    assert "here" not in text
    assert "BREW" not in text


def test_status_words_are_counted_where_they_are_answered(face: Face) -> None:
    face.know(Phase.RUNNING)
    before = scraped(face)["cloud_deploy_status_words_total",]
    for _ in range(3):
        assert requests.get(f"{face.url}/status_request?user_id=7&project_id=42", timeout=10).text == "running"
    assert scraped(face)["cloud_deploy_status_words_total",] - before == 3


async def test_the_database_is_timed(tmp_path: Path) -> None:
    """A disk that has become slow shows here before anybody waits for his service."""
    metrics = Metrics()
    store = await open_store("", tmp_path, SystemClock(), told=metrics.store_call)
    await store.get(Key("7", "42"))
    await store.want_absent(Key("7", "42"), now=1.0)
    async with store.own(Key("7", "42")):
        pass
    await store.aclose()
    found = samples(metrics.text().decode())
    assert found["cloud_deploy_store_seconds_count", "read", "ok"] == 1
    assert found["cloud_deploy_store_seconds_count", "write", "ok"] == 1
    assert found["cloud_deploy_store_seconds_count", "own", "ok"] == 1


async def test_steps_and_their_problems_are_counted() -> None:
    metrics = Metrics()
    stage = Stage(watch=metrics)
    await stage.start()
    stage.shop.away = True
    await stage.step()
    stage.shop.away = False
    await stage.until(Phase.RUNNING)
    found = samples(metrics.text().decode())
    assert found["cloud_deploy_reconcile_seconds_count", "done"] >= 3
    assert found["cloud_deploy_reconcile_late_seconds_count",] >= 3
    assert found["cloud_deploy_problems_total", "builder_unavailable", "no"] == 1
    stage.shop.broken.append(Problem(code="exited", cause="it ended", fix="mend it"))
    stage.change_files("new")
    await stage.start()
    await stage.until(Phase.FAILED)
    assert samples(metrics.text().decode())["cloud_deploy_problems_total", "exited", "yes"] == 1


async def test_calls_of_the_engine_are_counted_without_the_names_in_them() -> None:
    """A cloud that refuses, or is asked too often, shows here; a series for each container would be a flood."""
    metrics = Metrics()
    engine = Engine("unix:///nowhere/docker.sock", told=metrics.cloud_call)
    with pytest.raises(Unavailable):
        async with engine.asked("inspect container web-1") as docker:
            await docker.containers.list()
    await engine.aclose()
    text = metrics.text().decode()
    assert samples(text)["cloud_deploy_cloud_calls_total", "docker", "inspect", "engine_unavailable"] == 1
    assert "web-1" not in text
