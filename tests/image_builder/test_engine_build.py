"""A whole build with system packages or with the project's own Dockerfile: what runs, and what is not done twice."""

from __future__ import annotations

import json
import secrets
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from image_builder.contract import ImageReference
from image_builder.engines.choose import engines_of
from image_builder.engines.engine import Engine
from image_builder.errors import BuildError
from image_builder.oci.layout import Layout
from image_builder.pipeline import build
from image_builder.workshop import Workshop
from tests import needs
from tests.image_builder.engine_bench import around
from tests.image_builder.wheels import SCRIPT, Notes, make_project, make_request, make_wheel, offline, plan_of

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
PROGRAM = (
    "import dep, subprocess, sys\nprint(dep.x, subprocess.check_output(['hello'], text=True).strip(), sys.argv[1:])\n"
)


@pytest.fixture
def links(tmp_path: Path) -> Path:
    folder = tmp_path / "links"
    make_wheel(folder, "dep", files={"dep.py": "x = 42\n"}, entry_points=SCRIPT)
    return folder


@pytest.fixture
def root(tmp_path: Path) -> Path:
    make_project(tmp_path / "shared", {"app.py": PROGRAM})
    return tmp_path / "shared"


async def made(workshop: Workshop, root: Path, *requirements: str, **changes: Any) -> tuple[ImageReference, Notes]:
    notes = Notes()
    try:
        image = await build(plan_of(make_request(*requirements, **changes), root, workshop), workshop, notes)
    finally:
        workshop.close()
    return image, notes


def with_docker(state: Path, links: Path, host: str) -> Workshop:
    environ = {**offline(links), **around().environ, "DOCKER_HOST": host, **offline(links)}
    return Workshop.open(state, environ, engines=engines_of(state / "builder", environ, "host"))


def without_engines(state: Path, links: Path) -> Workshop:
    return Workshop.open(state, offline(links))


def run_in_docker(host: str, reference: str) -> str:
    docker = [needs.program("docker"), "-H", host]
    subprocess.run([*docker, "pull", "-q", reference], check=True, capture_output=True)
    try:
        said = subprocess.run(
            [*docker, "run", "--rm", "--network", "none", reference], capture_output=True, text=True, check=True
        )
    finally:
        subprocess.run([*docker, "rmi", "-f", reference], capture_output=True, check=True)
    return said.stdout


async def test_wheels_and_program_run_over_system_packages_and_the_engine_is_asked_once(
    docker_engine: str, registry: str, base_image: str, root: Path, links: Path, tmp_path: Path
) -> None:
    target = f"{registry}/apt/{secrets.token_hex(4)}:1"
    asked = {"base_image": base_image, "system_packages": ("hello",), "push": target}
    image, notes = await made(with_docker(tmp_path / "state", links, docker_engine), root, "dep", **asked)
    assert any("docker puts hello" in line for line in notes.logs)
    assert notes.layers["apt hello by docker"].origin == "built" and notes.layers["base 1"].origin == "reused"
    assert run_in_docker(docker_engine, str(image.pushed)) == "42 Hello, world! []\n"
    make_project(root, {"app.py": PROGRAM + "# another program\n"})
    other, notes = await made(without_engines(tmp_path / "state", links), root, "dep", **{**asked, "owner": "8/1"})
    assert any("made before" in line for line in notes.logs) and other.digest != image.digest
    assert notes.layers["apt hello"].origin == "reused"


async def test_a_package_that_is_not_there_names_its_line(
    docker_engine: str, base_image: str, root: Path, links: Path, tmp_path: Path
) -> None:
    asked = {"system_packages": ("hello", "nope-nope"), "system_package_origins": ("a", "deployment.yaml:12:9: apt[1]")}
    with pytest.raises(BuildError) as caught:
        await made(with_docker(tmp_path / "state", links, docker_engine), root, base_image=base_image, **asked)
    problem = caught.value.problem
    assert problem.cause == "deployment.yaml:12:9: apt[1]: Unable to locate package nope-nope"


async def test_without_an_engine_the_error_says_what_to_install(
    base_image: str, root: Path, links: Path, tmp_path: Path
) -> None:
    environ = {**offline(links), "DOCKER_HOST": "unix:///nowhere", "PATH": str(tmp_path)}
    state = tmp_path / "state"

    def engines(layout: Layout) -> Sequence[Engine]:
        return engines_of(state, environ, "bridge")(layout)

    workshop = Workshop.open(state, offline(links), engines=engines)
    with pytest.raises(BuildError) as caught:
        await made(workshop, root, base_image=base_image, system_packages=("hello",))
    problem = caught.value.problem
    assert problem.code == "no_engine" and "apt-get install buildah" in problem.fix
    assert "there is no socket /nowhere" in problem.cause and "not installed" in problem.cause


async def test_an_own_dockerfile_is_built_and_started_as_the_yaml_says(
    docker_engine: str, registry: str, base_image: str, root: Path, links: Path, tmp_path: Path
) -> None:
    dockerfile = (
        f"FROM {base_image}\nWORKDIR /srv\nRUN ln -s python3 /usr/bin/python\nCOPY . .\nENV MINE=1\nCMD ['no']\n"
    )
    make_project(
        root, {"Dockerfile": dockerfile, "app.py": "import os; print(os.environ['MINE'], os.environ['PORT'])\n"}
    )
    target = f"{registry}/own/{secrets.token_hex(4)}:1"
    workshop = with_docker(tmp_path / "state", links, docker_engine)
    image, notes = await made(workshop, root, base_image=None, engine="docker", push=target, port=9001)
    assert any("Step 1/" in line for line in notes.logs)
    assert run_in_docker(docker_engine, str(image.pushed)) == "1 9001\n"
    config = json.loads(workshop.layout.path(manifest(workshop, image)["config"]["digest"]).read_bytes())
    assert config["config"]["Labels"]["io.tango.cloud-deploy.engine"] == "docker"


def manifest(workshop: Workshop, image: ImageReference) -> Any:
    return json.loads(workshop.layout.path(image.digest).read_bytes())
