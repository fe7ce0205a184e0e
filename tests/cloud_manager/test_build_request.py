"""What the builder is asked for, from what a person wrote."""

from __future__ import annotations

from typing import Any

import pytest

from cloud_manager.build_request import Program, argv, build_request
from cloud_manager.deployment import Deployment, Facts, Key, Phase, Want
from cloud_manager.deployment_spec import DeploymentSpec
from cloud_manager.targets.target import BuildPlatform
from image_builder.contract import BuildRequest, Requirement

HERE = BuildPlatform("linux/amd64", "3.11", "scratch")
CLOUD = BuildPlatform("linux/amd64", "3.9")


def asked(platform: BuildPlatform = HERE, origins: dict[str, str] | None = None, **parts: Any) -> BuildRequest:
    build = {"components": {}} | parts.pop("build", {})
    deploy = {"type": "fake", "entrypoint": ["main.py"]} | parts.pop("deploy", {})
    spec = DeploymentSpec.model_validate({"build": build, "deploy": deploy, **parts})
    row = Deployment(
        Key("7", "42"), Want.PRESENT, 1, spec, "", origins or {}, Phase.STARTED, Facts(), 1, 0.0, 0, 0.0, 0.0
    )
    return build_request(row, spec, platform, Program("common/7/42/nn_model", lock=spec.build.lock))


def test_a_small_project() -> None:
    assert asked() == BuildRequest(
        owner="7/42",
        source="common/7/42/nn_model",
        python="3.11",
        base_image="scratch",
        entrypoint=("python", "main.py"),
    )


def test_requirements_carry_the_line_that_asked_for_them() -> None:
    build = {"components": {"libs": ["python==3.9", "flask>=3"], "custom_packages": {"pypi": ["attrs"]}}}
    request = asked(CLOUD, {"build.components.libs[1]": "deployment.yaml:9:13"}, build=build)
    assert request.requirements == (
        Requirement(text="flask>=3", origin="deployment.yaml:9:13: build.components.libs[1]"),
        Requirement(text="attrs", origin="build.components.custom_packages.pypi[0]"),
    )
    assert request.python == "3.9"


def test_the_projects_lock_is_handed_on() -> None:
    assert asked(build={"lock": "requirements.lock"}).lock == "requirements.lock"


def test_how_the_program_is_run_is_part_of_the_image() -> None:
    deploy = {
        "pre_exec": [["convert.py", "a", "b"], ["hello.sh"]],
        "entrypoint": ["serve", "--fast"],
        "workdir": "app",
        "network": {"service_host_port": 8088},
    }
    request = asked(deploy=deploy)
    assert request.pre_exec == (("python", "convert.py", "a", "b"), ("sh", "hello.sh"))
    assert request.entrypoint == ("serve", "--fast")
    assert request.workdir == "/workspace/app"
    assert request.port == 8088


def test_an_absolute_workdir_stays_as_it_is() -> None:
    assert asked(deploy={"workdir": "/srv/app"}).workdir == "/srv/app"


def test_an_image_for_this_machine_alone_is_published_nowhere() -> None:
    build = {"image_uri": "registry/hello:1", "base_image": "python:3.9"}
    assert (asked(HERE, build=build).push, asked(HERE, build=build).base_image) == (None, "scratch")
    assert (asked(CLOUD, build=build).push, asked(CLOUD, build=build).base_image) == ("registry/hello:1", "python:3.9")


@pytest.mark.parametrize("name", ["python:3.8", "us-docker.pkg.dev/cloudrun/container/hello:latest", "library/x"])
def test_the_samples_in_tangos_files_are_published_nowhere(name: str) -> None:
    """They are images of Docker and Google: each build would end in a refusal, though docker needs no registry."""
    assert asked(CLOUD, build={"image_uri": name}).push is None
    cloud_run = BuildPlatform("linux/amd64", "3.9", repository="asia-docker.pkg.dev/p/r")
    assert asked(cloud_run, build={"image_uri": name}).push == name, "told before, by the target's own check"


@pytest.mark.parametrize(
    ("words", "executed"),
    [
        (("a.py",), ("python", "a.py")),
        (("run.sh", "x"), ("sh", "run.sh", "x")),
        (("python", "a.py"), ("python", "a.py")),
        (("./serve",), ("./serve",)),
        ((), ()),
    ],
)
def test_argv(words: tuple[str, ...], executed: tuple[str, ...]) -> None:
    assert argv(words) == executed
