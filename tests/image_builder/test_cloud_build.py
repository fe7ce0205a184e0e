"""`build.engine: cloud-build`, by Google's own clients, in a process that knows of the twin by its environment."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from image_builder.engines import cloud_build_spec as spec
from image_builder.engines.apt import system_packages
from image_builder.engines.cloud_build_source import chunks_of, pack
from image_builder.engines.context import Context
from image_builder.source_tree import SourceFile
from image_builder.work import StopFlag
from tests import needs
from tests.gcp_emulator.emulated import Emulator
from tests.image_builder.cloud_build_client import seconds
from tests.integration.stack import until

PLACE = spec.Place("my-project", "europe-west1", "my-bucket")
Tell = Callable[..., dict[str, Any]]


@pytest.fixture
def emulator(tmp_path: Path, docker_engine: str) -> Iterator[Emulator]:
    needs.program("docker")
    emulator = Emulator(tmp_path / "state", "--docker", docker_engine)
    emulator.start()
    yield emulator
    emulator.kill(signal.SIGTERM)


@pytest.fixture
def tell(emulator: Emulator, tmp_path: Path) -> Tell:
    """What stories told, told in one process."""

    def told(*stories: str, ends: int = 0) -> dict[str, Any]:
        client = [sys.executable, "-W", "ignore::FutureWarning", "-m", "tests.image_builder.cloud_build_client"]
        done = emulator.run(*client, str(tmp_path / "builder"), *stories)
        assert done.returncode == ends, done.stderr
        return {name: what for line in done.stdout.splitlines() for name, what in json.loads(line).items()}

    return told


def _sleeping(folder: Path) -> bool:
    """Whether the step of a build without an end runs."""
    endless = ["sleep", str(seconds(folder / "builder"))]
    return any(one.info["cmdline"] == endless for one in psutil.process_iter(["cmdline"]))


@pytest.mark.slow
def test_what_is_built_comes_back_and_what_is_cancelled_stops(tell: Tell, tmp_path: Path) -> None:
    told = tell("dockerfile", "published", "cancelled")
    dockerfile = told["dockerfile"]
    assert dockerfile["command"] == ["hello"] and all(dockerfile["whole"]) and dockerfile["whole"]
    assert "cloud-build: it runs" in dockerfile["first"] and dockerfile["left"] == []
    sent = [line for line in (*dockerfile["first"], *dockerfile["second"]) if "sending the source" in line]
    assert len(sent) == 1, "the same source is sent once"

    assert told["published"]["states"] == {"Dockerfile 1": "mounted"}, "what the registry has is not sent again"
    assert told["published"]["pushed"].startswith("us-central1-docker.pkg.dev/twin-project/cloud-deploy/app@sha256:")

    assert told["cancelled"]["cancelled"] and told["cancelled"]["states"][0] == "CANCELLED"
    assert not _sleeping(tmp_path)


@pytest.mark.long
def test_packages_are_put_on_a_base_and_each_refusal_is_explained(tell: Tell) -> None:
    told = tell("broken", "packages", "faulty")
    faulty = told["faulty"]
    assert told["broken"]["code"] == "dockerfile_failed" and "no weights here" in told["broken"]["cause"]

    assert "installed-hello" in told["packages"]["names"]
    assert not [name for name in told["packages"]["names"] if "policy" in name]
    assert told["packages"]["problem"]["code"] == "apt_package_not_found"
    assert any(line.endswith("install -- hello, noninteractive") for line in told["packages"]["lines"])

    codes = {name: problem.get("code") for name, problem in faulty.items()}
    assert codes | {"lost answer": None} == {
        "denied": "google_permission",
        "disabled": "google_api_disabled",
        "quota": "google_quota",
        "gone": "google_unreachable",
        "internal": "engine_failed",
        "lost answer": None,
        "bucket": "cloud_build_bucket",
        "local base": "engine_base",
        "other machine": "engine_platform",
        "unset": None,
        "chosen": None,
    }
    again = {name for name, problem in faulty.items() if problem.get("retryable")}
    assert again == {"quota", "gone", "internal"}
    assert faulty["lost answer"] == {"builds": 1}, "a build whose answer is lost is not made twice"
    assert faulty["bucket"]["fix"].startswith("gcloud storage buckets create gs://not-there")
    assert faulty["unset"]["said"] == "cloud-build: CLOUD_BUILD_BUCKET must be set"
    assert faulty["chosen"] == {"name": "cloud-build"}, "apt without a local engine is Cloud Build's"


@pytest.mark.slow
def test_a_builder_that_was_killed_leaves_no_build_running(tell: Tell, tmp_path: Path) -> None:
    tell("left", ends=9)
    told = tell("swept")["swept"]
    assert (told["before"], told["after"], told["left"]) == (["WORKING"], ["CANCELLED"], [])
    assert not _sleeping(tmp_path)


@pytest.mark.long
def test_a_build_ends_with_the_emulator_that_is_killed(tell: Tell, emulator: Emulator, tmp_path: Path) -> None:
    tell("left", ends=9)
    emulator.kill(signal.SIGKILL)
    until("the step to be over", lambda: not _sleeping(tmp_path))
    emulator.start()
    assert tell("swept")["swept"]["before"] == ["INTERNAL_ERROR"]


def test_the_same_files_are_the_same_archive(tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text("FROM x\n")
    digest = "08d9ed5e1bd21a2a2dc0e3a1e3a2b7d0" * 2
    one = Context(tmp_path, (SourceFile("a", "link", target="b"),), "linux/amd64")
    other = Context(tmp_path / "elsewhere", (SourceFile("a", "link", target="b"),), "linux/amd64")
    assert spec.source_key(one) == spec.source_key(other)
    assert spec.source_key(one) != spec.source_key(Context(tmp_path, (SourceFile("a", "file", sha256=digest),), "x"))
    for name in ("1", "2"):
        pack(chunks_of(one), tmp_path / name, StopFlag())
    assert (tmp_path / "1").read_bytes() == (tmp_path / "2").read_bytes()


def test_what_cloud_build_is_asked() -> None:
    asked = spec.request(PLACE, "cloud-deploy/key.tar.gz", 7, "run")["build"]
    image = "europe-west1-docker.pkg.dev/my-project/cloud-deploy/cloud-deploy-builds:run"
    assert asked["images"] == [image] and asked["tags"] == ["cloud-deploy-run"]
    assert asked["steps"][0]["args"] == ["build", "-t", image, "-f", "Dockerfile", "."]
    assert asked["source"]["storage_source"] == {
        "bucket": "my-bucket",
        "object_": "cloud-deploy/key.tar.gz",
        "generation": 7,
    }
    assert asked["logs_bucket"] == "gs://my-bucket/cloud-deploy-logs"


def test_packages_are_one_layer_and_no_shell_reads_their_names() -> None:
    lines = spec.packages_dockerfile("docker.io/library/x@sha256:1", system_packages(["vim=2:9~1", "git"])).splitlines()
    assert [line.split()[0] for line in lines] == ["FROM", "USER", "RUN"]
    assert lines[2].count(" && ") == 5 and "vim=2:9~1" in lines[2]


@pytest.mark.parametrize("left_out", ["GCP_REGION", "CLOUD_BUILD_BUCKET", "GOOGLE_CLOUD_PROJECT"])
def test_what_must_be_set_is_named(left_out: str) -> None:
    environ = {"GOOGLE_CLOUD_PROJECT": "p", "GCP_REGION": "r", "CLOUD_BUILD_BUCKET": "b"}
    assert spec.place_of(environ) == spec.Place("p", "r", "b")
    del environ[left_out]
    assert spec.place_of(environ) == left_out.replace("GOOGLE_CLOUD", "GCP")


@pytest.mark.parametrize(
    ("status", "kind", "code", "again"),
    [
        ("FAILURE", "USER_BUILD_STEP", "dockerfile_failed", False),
        ("FAILURE", "PUSH_FAILED", "cloud_build_push", False),
        ("TIMEOUT", "FAILURE_TYPE_UNSPECIFIED", "engine_failed", False),
        ("INTERNAL_ERROR", "FAILURE_TYPE_UNSPECIFIED", "engine_failed", True),
        ("CANCELLED", "FAILURE_TYPE_UNSPECIFIED", "engine_failed", False),
    ],
)
def test_each_end_has_its_error(status: str, kind: str, code: str, again: bool) -> None:
    problem = spec.failed(PLACE, status, "why", kind, "BUILD\nE: it\n").problem
    assert (problem.code, problem.retryable) == (code, again)
