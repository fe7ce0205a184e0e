"""Real engines put packages on a real base, and leave nothing behind however they end."""

from __future__ import annotations

import asyncio
import gzip
import json
import secrets
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from image_builder.contract import Platform
from image_builder.engines.context import Context
from image_builder.engines.engine import Built, Surroundings
from image_builder.errors import BuildError
from image_builder.file_hashes import FileHashes
from image_builder.layers.index import Layer
from image_builder.source_tree import read_tree
from tests.base_image import tiny_base
from tests.image_builder.engine_bench import ENGINES, Bench, around, make_bench

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
ROOT = Path(__file__).parents[2]


@pytest.fixture(params=ENGINES)
def engine_name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def docker_host(request: pytest.FixtureRequest, engine_name: str) -> str:
    return str(request.getfixturevalue("docker_engine")) if engine_name == "docker" else ""


@pytest.fixture
async def bench(engine_name: str, docker_host: str, bare_debian: str, tmp_path: Path) -> Bench:
    return await make_bench(engine_name, bare_debian, tmp_path, docker_host, lent(tmp_path))


def lent(folder: Path) -> Surroundings:
    """With a proxy setting that is easily found again, and leave to talk to the test registry without TLS."""
    conf = folder / "registries.conf"
    conf.write_text('[[registry]]\nprefix = "127.0.0.1"\nlocation = "127.0.0.1"\ninsecure = true\n')
    return around(no_proxy="leaky.example,127.0.0.1", CONTAINERS_REGISTRIES_CONF=str(conf))


async def test_packages_run_and_nothing_of_the_host_is_in_them(bench: Bench) -> None:
    assert await bench.engine.available() is None
    layer = await bench.install("vim-tiny", "hello=2.10-3")
    assert bench.leftovers() == []
    image = bench.with_layer(layer)
    assert await bench.run(image, "hello") == "Hello, world!\n"
    assert "installed" in await bench.run(image, "dpkg-query", "-W", "-f", "${Status}", "vim-tiny")
    kept = await bench.run(image, "find", "/var/lib/apt/lists", "/var/cache/apt", "-type", "f", "!", "-name", "lock")
    assert kept == "", "apt's own lists and packages are gone"
    data = content(bench, layer)
    for trace in (b"leaky.example", b"cloud-deploy", b"policy-rc.d", b"BEGIN CERTIFICATE"):
        assert trace not in data
    assert any("Setting up hello" in line for line in bench.lines), "what apt says is told while it runs"


@pytest.mark.long
async def test_a_package_that_does_not_exist_is_named(bench: Bench) -> None:
    with pytest.raises(BuildError) as caught:
        await bench.install("hello", "no-such-package")
    assert caught.value.problem.code == "apt_package_not_found"
    assert caught.value.problem.cause == "Unable to locate package no-such-package"
    with pytest.raises(BuildError) as caught:
        await bench.install("hello=0.1")
    assert caught.value.problem.code == "apt_version_not_found"
    assert bench.leftovers() == []


@pytest.mark.long
async def test_no_network_is_tried_again(engine_name: str, docker_host: str, bare_debian: str, tmp_path: Path) -> None:
    dead = around(http_proxy="http://127.0.0.1:9", https_proxy="http://127.0.0.1:9")
    bench = await make_bench(engine_name, bare_debian, tmp_path, docker_host, dead)
    with pytest.raises(BuildError) as caught:
        await bench.install("hello")
    assert (caught.value.problem.code, caught.value.problem.retryable) == ("apt_unreachable", True)
    assert bench.leftovers() == []


@pytest.mark.long
@pytest.mark.parametrize("moment", ["image", "Get:1", "Unpacking hello"])
async def test_cancelled_nothing_runs_and_nothing_is_left(bench: Bench, moment: str) -> None:
    task: asyncio.Task[Layer] = asyncio.ensure_future(bench.install("hello"))
    bench.at = lambda line: task.cancel() if moment in line else None
    with pytest.raises(asyncio.CancelledError):
        await task
    assert bench.leftovers() == []


@pytest.mark.long
async def test_what_a_killed_builder_left_is_swept(
    engine_name: str, docker_host: str, bare_debian: str, tmp_path: Path, bench: Bench
) -> None:
    argv = [
        sys.executable,
        "-m",
        "tests.image_builder.engine_bench",
        engine_name,
        bare_debian,
        str(tmp_path),
        docker_host,
    ]
    with subprocess.Popen(argv, cwd=ROOT, stdout=subprocess.PIPE, text=True) as builder:
        assert builder.stdout is not None
        for line in builder.stdout:
            if "Unpacking hello" in line:
                break
        builder.kill()
    assert bench.leftovers() != []
    await bench.engine.sweep()
    assert bench.leftovers() == []


@pytest.mark.long
async def test_what_a_living_builder_uses_is_not_swept(bench: Bench) -> None:
    sweeps: list[asyncio.Task[None]] = []
    bench.at = lambda line: sweeps.append(asyncio.ensure_future(bench.engine.sweep())) if "Get:1" in line else None
    await bench.install("hello")
    await asyncio.gather(*sweeps)
    assert sweeps and bench.leftovers() == []


async def test_a_dockerfile_is_built_whole(bench: Bench, tmp_path: Path) -> None:
    dockerfile = f"FROM {bench.reference}\nCOPY . /app\nRUN echo told while it runs && ls -A /app > /seen\nCMD ['x']\n"
    built = await build(bench, tmp_path, dockerfile)
    assert any("told while it runs" in line for line in bench.lines)
    config = json.loads(built.config)
    assert config["rootfs"]["diff_ids"] == [layer.diff_id for layer in built.layers]
    assert b"app.py\n" in content(bench, built.layers[-1]) and b"secret.key" not in content(bench, built.layers[-1])
    assert b"leaky.example" not in built.config + b"".join(content(bench, layer) for layer in built.layers[1:])
    assert bench.leftovers() == []


@pytest.mark.long
async def test_a_dockerfile_that_fails_is_told_with_its_reason(bench: Bench, tmp_path: Path) -> None:
    with pytest.raises(BuildError) as caught:
        await build(bench, tmp_path, f"FROM {bench.reference}\nRUN echo on purpose && exit 7\n")
    assert caught.value.problem.code == "dockerfile_failed" and "7" in caught.value.problem.cause
    assert "\n" not in caught.value.problem.cause
    assert bench.leftovers() == []


@pytest.mark.long
async def test_a_dockerfile_build_is_cancelled(bench: Bench, tmp_path: Path) -> None:
    text = f"FROM {bench.reference}\nRUN echo now-it-sleeps-{tmp_path.name} && sleep 1234\n"
    task: asyncio.Task[Built] = asyncio.ensure_future(build(bench, tmp_path, text))
    bench.at = lambda line: task.cancel() if line.endswith(f"now-it-sleeps-{tmp_path.name}") else None
    with pytest.raises(asyncio.CancelledError):
        await task
    assert bench.leftovers() == []
    assert subprocess.run(["pgrep", "-fx", "sleep 1234"], capture_output=True, check=False).stdout == b""


async def build(bench: Bench, folder: Path, dockerfile: str, platform: Platform = "linux/amd64") -> Built:
    project = folder / "project"
    project.mkdir()
    for name, text in (("Dockerfile", dockerfile), ("app.py", "1"), ("secret.key", "2"), (".dockerignore", "*.key\n")):
        (project / name).write_text(text)
    hashes = FileHashes(folder / "hashes.sqlite")
    try:
        context = Context(project, read_tree(project, hashes), platform)
    finally:
        hashes.close()
    return await bench.engine.build_dockerfile(context, bench.log)


def content(bench: Bench, layer: Layer) -> bytes:
    with bench.layout.open_blob(layer.digest) as file:
        return gzip.decompress(file.read())


@pytest.mark.long
async def test_a_base_without_any_program_is_the_projects_fault(
    registry: str, docker_engine: str, tmp_path: Path
) -> None:
    """Not the engine's, which its keeper would search in vain."""
    base = tiny_base(registry, f"none/{secrets.token_hex(4)}", [{"etc/x": b"1"}])
    bench = await make_bench("docker", base, tmp_path, docker_engine, lent(tmp_path))
    with pytest.raises(BuildError) as caught:
        await bench.install("hello")
    assert caught.value.problem.code == "no_apt_in_base" and bench.leftovers() == []


@pytest.mark.long
async def test_an_engine_without_a_bridge_names_the_setting(
    registry: str, docker_engine: str, bare_debian: str, tmp_path: Path
) -> None:
    """Where the bridge works, apt does, too."""
    bench = await make_bench("docker", bare_debian, tmp_path, docker_engine, replace(lent(tmp_path), network="bridge"))
    try:
        await bench.install("hello")
    except BuildError as error:
        assert error.problem.code in ("engine_network", "apt_unreachable")
        assert "BUILD_NETWORK=host" in error.problem.fix
    assert bench.leftovers() == []
