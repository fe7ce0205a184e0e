"""The decisions of the `local` target, without a process or a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cloud_manager.deployment import Key
from cloud_manager.deployment_spec import DeploymentSpec
from cloud_manager.errors import TargetError
from cloud_manager.targets import local_problems
from cloud_manager.targets.local_run import Report, Run, ServiceReport, ServiceState, Timing
from cloud_manager.targets.local_spec import (
    ImageConfig,
    choose_python,
    machine_platform,
    observation,
    problems_of,
    run_of,
    secret_file,
)
from cloud_manager.targets.target import Wanted
from image_builder.contract import ImageReference

IMAGE = ImageReference(repository="builds/x", digest="sha256:" + "0" * 64, size=1)
CONFIG = ImageConfig.parse(
    {
        "config": {
            "Env": ["PATH=/opt/venv/bin:/usr/bin:/bin", "PYTHONPATH=/workspace:/nowhere", "MODEL=/workspace/m.pt"],
            "Entrypoint": ["python", "/opt/cloud-deploy/launch.py"],
            "WorkingDir": "/workspace",
        }
    }
)
IN_IMAGE = {"/workspace", "/workspace/m.pt", "/opt/cloud-deploy/launch.py", "/opt/venv/bin", "/opt/venv"}


def spec(build: dict[str, Any] | None = None, **deploy: Any) -> DeploymentSpec:
    build = {"components": {}} if build is None else build
    return DeploymentSpec.model_validate({"build": build, "deploy": {"type": "local", **deploy}})


def run(environ: dict[str, str] | None = None, secrets: dict[str, str] | None = None, **deploy: Any) -> Run:
    return run_of(
        Wanted(Key("7", "42"), spec(**deploy), "a" * 16, image=IMAGE),
        CONFIG,
        root=Path("/root-of-it"),
        exists=IN_IMAGE.__contains__,
        environ=environ or {},
        secrets=secrets or {},
        timing=Timing(),
    )


def test_paths_of_the_image_are_found_below_the_root() -> None:
    made = run()
    assert made.argv == ("python", "/root-of-it/opt/cloud-deploy/launch.py")
    assert made.cwd == "/root-of-it/workspace"
    assert made.env["PYTHONPATH"] == "/root-of-it/workspace:/nowhere"
    assert made.env["MODEL"] == "/root-of-it/workspace/m.pt"
    assert made.env["VIRTUAL_ENV"] == "/root-of-it/opt/venv"
    assert made.env["PATH"] == "/root-of-it/opt/venv/bin:/usr/bin:/bin"


def test_nothing_of_the_managers_environment_leaks() -> None:
    """Else a program could read the database's password."""
    passed = {"HOME": "/h", "LC_ALL": "C", "https_proxy": "http://p", "HTTPS_PROXY": "http://p", "TZ": "UTC"}
    made = run({**passed, "DATABASE_URL": "postgresql://secret", "SECRETS_DIR": "/s", "PYTHONPATH": "/evil"})
    assert passed.items() <= made.env.items()
    assert "postgresql" not in str(made.env)
    assert "SECRETS_DIR" not in made.env
    assert "/evil" not in made.env["PYTHONPATH"]


def test_the_files_own_variables_and_secrets_win() -> None:
    made = run({"TZ": "UTC"}, {"TOKEN": "s3cret"}, env={"TZ": "Asia/Seoul", "WEIGHTS": "/workspace/m.pt", "ROOT": "/"})
    assert made.env["TZ"] == "Asia/Seoul"
    assert made.env["TOKEN"] == "s3cret"
    assert made.env["WEIGHTS"] == "/root-of-it/workspace/m.pt"
    assert made.env["ROOT"] == "/"


def test_ports_and_health_come_from_the_file() -> None:
    made = run(
        network={"service_container_port": 5000, "service_host_port": 8123, "service_host_ip": "127.0.0.1"},
        health={"path": "/up", "startup_seconds": 7},
    )
    assert (made.port, made.public_host, made.public_port) == (5000, "127.0.0.1", 8123)
    assert (made.health_path, made.startup_seconds) == ("/up", 7)
    assert run().public_port is None
    assert Run.from_json(made.to_json()) == made


@pytest.mark.parametrize(
    ("build", "deploy", "names"),
    [
        ({"image_uri": "nginx"}, {}, "build.image_uri"),
        ({"accelerator": "gpu", "components": {}}, {}, "GPU"),
        ({"components": {}}, {"resources": {"gpu": 1}}, "GPU"),
        ({"components": {"custom_packages": {"apt": ["vim", "ffmpeg"]}}}, {}, "custom_packages.apt"),
        ({"components": {}}, {"data": [{"mount": "/data", "bucket": "b"}]}, "deploy.data"),
        ({"components": {}}, {"network": {"service_host_ip": "203.0.113.9"}}, "203.0.113.9"),
        ({"components": {}}, {"secrets": {"TOKEN": "token"}}, "deploy.secrets"),
    ],
)
def test_what_cannot_be_done_here_is_said_before_anything_is_built(
    build: dict[str, Any], deploy: dict[str, Any], names: str
) -> None:
    (problem,) = problems_of(spec(build, **deploy), addresses={"127.0.0.1"}, secrets=False)
    assert names in problem.cause
    assert problem.fix


def test_an_ordinary_file_has_no_problem_whatever_its_architecture() -> None:
    ordinary = spec({"architecture": "linux/arm64", "components": {}}, secrets={"A": "a"})
    assert problems_of(ordinary, addresses={"127.0.0.1"}, secrets=True) == []


def test_a_python_that_is_not_here_is_refused_by_name() -> None:
    assert choose_python(None, "3.11", []) == "3.11"
    assert choose_python("3.12", "3.11", ["3.12"]) == "3.12"
    with pytest.raises(TargetError, match=r"asks for python 3\.9; this machine has 3\.11, 3\.12"):
        choose_python("3.9", "3.11", ["3.12", "3.11"])


def test_the_platform_is_this_machines() -> None:
    assert machine_platform("darwin", "arm64") == "darwin/arm64"
    with pytest.raises(TargetError, match="riscv64"):
        machine_platform("linux", "riscv64")


@pytest.mark.parametrize("name", ["../etc/passwd", "a/b", "", ".", "a:b:c", "/etc/passwd", "a\0b"])
def test_no_secret_reaches_outside_its_folder(name: str) -> None:
    """Else a deployment.yaml could read any file of the manager."""
    with pytest.raises(TargetError, match="not a secret's name"):
        secret_file(name)


def test_secrets_have_versions() -> None:
    assert [secret_file(name) for name in ("a", "a:latest", "a:2")] == ["a", "a", "a:2"]


def report(state: ServiceState, **more: Any) -> Report:
    services = (ServiceReport("old", "ready"), ServiceReport("new", state, problem=more.pop("problem", None)))
    return Report("n", "new", 1, "127.0.0.1", 8000, services=services, **more)


def test_the_state_file_is_told_as_it_is() -> None:
    failed = report("failed", serving="old", problem=local_problems.exited(3, ["no"], 80))
    seen = observation(failed, alive=True, removing=False, platform="linux/amd64")
    assert (seen.state, seen.revision, seen.url) == ("failed", "new", "http://127.0.0.1:8000")
    assert observation(report("starting"), alive=True, removing=False, platform="linux/amd64").url is None
    assert (
        observation(report("ready", serving="new"), alive=True, removing=False, platform="linux/amd64").state == "ready"
    )
    assert (
        observation(report("ready", serving="new"), alive=True, removing=True, platform="linux/amd64").state
        == "removing"
    )


def test_what_a_dead_supervisor_wrote_is_not_believed() -> None:
    """Else a killed service would be `running` for ever."""
    seen = observation(report("ready", serving="new"), alive=False, removing=False, platform="linux/amd64")
    assert (seen.state, seen.revision, seen.url) == ("pending", None, None)
    assert seen.problem is not None
    assert seen.problem.code == "interrupted"


def test_causes_are_one_line_that_names_the_thing() -> None:
    died = local_problems.exited(-9, ["first\nsecond", "third"], 80)
    assert died["cause"] == "the program was ended by SIGKILL; its last lines: first second | third"
    taken = local_problems.exited(1, ["OSError: [Errno 98] Address already in use"], 80)
    assert "PORT" in taken["fix"]
    assert "5000, not on PORT=8080" in local_problems.wrong_port([5000], 8080, [])["cause"]
    assert "8080 on 127.0.0.1 is in use by nginx" in local_problems.port_in_use("127.0.0.1", 8080, "nginx")["cause"]
