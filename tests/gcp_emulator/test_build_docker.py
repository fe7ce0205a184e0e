"""Builds that really run: the Docker Engine, or buildah, does what the steps say."""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import psutil
import pytest

from gcp_emulator.runtime_process import carriers
from tests import needs
from tests.gcp_emulator.build_stock import IMAGE, PROJECT, Status, Stock, docker, image_build, shell, stock

DOCKERFILE = b"FROM scratch\nCOPY root /\nCOPY hello.txt /hello.txt\n"
RUN = DOCKERFILE + b'RUN ["/bin/sh", "-c", "echo it runs; %s"]\n'


@pytest.fixture
async def twin(tmp_path: Path, docker_engine: str) -> AsyncIterator[Stock]:
    needs.program("docker")
    async with stock(tmp_path, docker=docker_engine) as ready:
        yield ready
        assert _images(docker_engine, _identity(ready)) == [], "images are left in the engine"


def _identity(twin: Stock) -> str:
    return str(twin.twin.state.json_table("build").get("identity"))


def _images(host: str, identity: str) -> list[str]:
    with httpx.Client(transport=httpx.HTTPTransport(uds=host.removeprefix("unix://")), trust_env=False) as http:
        asked = {"filters": json.dumps({"reference": [f"localhost/gcp-emulator-{identity}"]})}
        return [row["Id"] for row in http.get("http://docker/images/json", params=asked).json()]


async def _manifest(twin: Stock, tag: str) -> httpx.Response:
    accept = {"Accept": "application/vnd.docker.distribution.manifest.v2+json"}
    return await twin.registry.get(f"/v2/{PROJECT}/cloud-deploy/made/manifests/{tag}", headers=accept)


def _files(command: bytes = b"true") -> dict[str, bytes]:
    return {"Dockerfile": RUN % command, "hello.txt": b"hello", **shell()}


@pytest.mark.slow
async def test_a_dockerfile_becomes_an_image_in_the_registry(twin: Stock) -> None:
    """The digest that the build tells is the one to deploy; the log says what happened."""
    build = await twin.ended(await twin.create(image_build(source=await twin.upload(_files()))))
    log = await twin.log(build)
    assert build.status == Status.SUCCESS, log
    pushed = await _manifest(twin, "1")
    assert [(one.name, one.digest) for one in build.results.images] == [
        (f"{IMAGE}:1", pushed.headers["docker-content-digest"])
    ]
    assert set(build.timing) == {"FETCHSOURCE", "BUILD", "PUSH"}
    words = ("FETCHSOURCE", "it runs", "PUSH", f"1: digest: {build.results.images[0].digest}", "DONE")
    assert [log.find(word) for word in words] == sorted(log.find(word) for word in words) and "it runs" in log

    # what was built is what the next one may build on, and its layers go back as they came
    more = {"Dockerfile": f"FROM {IMAGE}:1\nCOPY more.txt /\n".encode(), "more.txt": b"more"}
    steps = [
        docker("build", "-t", f"{IMAGE}:2", "."),
        docker("tag", f"{IMAGE}:2", f"{IMAGE}:3"),
        docker("push", f"{IMAGE}:3"),
    ]
    second = image_build(source=await twin.upload(more), steps=steps, images=[f"{IMAGE}:2"])
    built = await twin.ended(await twin.create(second))
    assert built.status == Status.SUCCESS, await twin.log(built)
    layers = [[row["digest"] for row in (await _manifest(twin, tag)).json()["layers"]] for tag in "123"]
    assert layers[1] == layers[2] and layers[1][:-1] == layers[0]


@pytest.mark.slow
async def test_the_log_grows_while_the_build_runs_and_a_cancelled_one_stops(twin: Stock) -> None:
    seconds = 10_000 + secrets.randbelow(1_000_000)
    build = await twin.create(image_build(source=await twin.upload(_files(b"sleep %d" % seconds))))
    async with asyncio.timeout(60):
        while "it runs" not in await twin.log(build):
            await asyncio.sleep(0.05)
    ended = await twin.builds.cancel_build(project_id=PROJECT, id=build.id)
    assert ended.status == Status.CANCELLED
    assert carriers(_identity(twin)) == []
    assert not [one for one in psutil.process_iter(["cmdline"]) if one.info["cmdline"] == ["sleep", str(seconds)]]
    assert (await _manifest(twin, "1")).status_code == 404


@pytest.mark.slow
async def test_a_step_that_fails_fails_the_build_with_its_words(twin: Stock) -> None:
    build = await twin.ended(await twin.create(image_build(source=await twin.upload(_files(b"exit 7")))))
    assert build.status == Status.FAILURE
    assert 'build step 0 "gcr.io/cloud-builders/docker" failed: step exited with non-zero status' in build.status_detail
    assert build.failure_info.type_.name == "USER_BUILD_STEP"
    assert "returned a non-zero code: 7" in await twin.log(build)


async def test_an_image_that_no_step_made_is_missed(twin: Stock) -> None:
    source = await twin.upload({"Dockerfile": DOCKERFILE, "hello.txt": b"x", **shell()})
    build = await twin.ended(await twin.create(image_build(source=source, images=[f"{IMAGE}:other"])))
    assert (build.status, build.failure_info.type_.name) == (Status.FAILURE, "PUSH_IMAGE_NOT_FOUND")


async def test_a_repository_that_is_not_there_fails_the_push(twin: Stock) -> None:
    elsewhere = IMAGE.replace("cloud-deploy", "not-made")
    source = await twin.upload({"Dockerfile": DOCKERFILE, "hello.txt": b"x", **shell()})
    steps = [docker("build", "-t", elsewhere, ".")]
    build = await twin.ended(await twin.create(image_build(source=source, steps=steps, images=[elsewhere])))
    assert (build.status, build.failure_info.type_.name) == (Status.FAILURE, "PUSH_FAILED")
    assert "not-made" in build.status_detail


async def test_without_an_engine_the_log_says_what_is_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    async with stock(tmp_path, docker=f"unix://{tmp_path}/none.sock") as alone:
        build = await alone.ended(await alone.create(image_build()))
        assert build.status == Status.FAILURE
        assert "gcp_emulator needs a Docker Engine" in await alone.log(build)


@pytest.mark.long
async def test_buildah_does_where_there_is_no_engine(tmp_path: Path) -> None:
    needs.root_on_linux("buildah")
    needs.program("buildah")
    async with stock(tmp_path, docker=f"unix://{tmp_path}/none.sock") as twin:
        build = await twin.ended(await twin.create(image_build(source=await twin.upload(_files()))))
        log = await twin.log(build)
        assert build.status == Status.SUCCESS, log
        assert "it runs" in log
        assert (await _manifest(twin, "1")).headers["docker-content-digest"] == build.results.images[0].digest
