"""The preflight's own rules: what stops nothing else, what is asked of which file, and what is shown."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from rich.console import Console
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from cloud_manager.cli.main import main
from cloud_manager.cli.preflight import show
from cloud_manager.clock import SystemClock
from cloud_manager.deployment import Key
from cloud_manager.deployment_spec import DeploymentSpec
from cloud_manager.errors import DeployError, TargetError
from cloud_manager.preflight import Check, Found, Question, Report, Unasked, answers, passed, skipped
from cloud_manager.preflights import FACTORIES, Preflights
from cloud_manager.settings import Settings
from cloud_manager.targets import cloud_run_preflight_spec as want
from cloud_manager.targets.catalog import FACTORIES as TARGETS
from cloud_manager.targets.catalog import Catalog
from cloud_manager.targets.cloud_run_place import Place
from cloud_manager.targets.docker_preflight import gpu_found
from cloud_manager.targets.host_preflight import disk
from tests.cloud_manager.canned_manager import serving_app
from tests.cloud_manager.face import Face, served
from tests.fakes.builder import FakeBuilder, Workshop

PLACE = Place("my-project", "us-central1")


def spec(**keys: Any) -> DeploymentSpec:
    """`deploy__…` and `build__…` are keys of those sections."""
    sections: dict[str, dict[str, Any]] = {"deploy": {"type": "gcp-cloudrun"}, "build": {}}
    for name, value in keys.items():
        section, _, key = name.partition("__")
        sections[section][key] = value
    return DeploymentSpec.model_validate(sections)


# --- questions --------------------------------------------------------------------------------------------------


async def test_one_answer_that_does_not_come_costs_no_other() -> None:
    """A person mends all that is wrong at once, and not one thing after the other."""

    async def well() -> Found:
        return passed("well")

    async def wrong() -> Found:
        raise TargetError("the disk is full", "free some")

    async def cannot() -> Found:
        raise Unasked(skipped("nobody answers", "ask again"))

    async def silent() -> Found:
        await asyncio.Event().wait()
        return passed("never")

    async def broken() -> Found:
        raise KeyError("state")

    asked = {"broken": broken, "silent": silent, "cannot": cannot, "wrong": wrong, "well": well}
    rows = await answers([Question(name, ask) for name, ask in asked.items()], seconds=0.05)
    found = {row.name: (row.outcome, row.cause) for row in rows}
    assert list(found) == list(asked)
    assert found["wrong"] == ("failed", "the disk is full") and found["well"] == ("passed", "well")
    assert found["cannot"] == ("skipped", "nobody answers")
    assert found["silent"] == ("skipped", "no answer within 0.05 s")
    assert found["broken"] == ("skipped", "a mistake of ours: KeyError")


def test_only_what_failed_makes_a_preflight_fail() -> None:
    rows = [Check(name="a", outcome="passed", cause=""), Check(name="b", outcome="skipped", cause="not asked")]
    assert Report.of("docker", rows).ok
    assert not Report.of("docker", [*rows, Check(name="c", outcome="failed", cause="")]).ok


def test_every_target_has_a_preflight() -> None:
    assert FACTORIES.keys() == TARGETS.keys()


# --- what is asked of Google ------------------------------------------------------------------------------------


def test_a_file_is_asked_for_what_it_uses_and_nothing_else() -> None:
    """Who deploys a prebuilt image needs no registry of his own, and no rights in one."""
    usual = want.apis(None, cloud_build=False)
    assert usual == ("run.googleapis.com", "logging.googleapis.com", "artifactregistry.googleapis.com")
    prebuilt = spec(build__image_uri="us-docker.pkg.dev/cloudrun/container/hello")
    assert want.apis(prebuilt, cloud_build=False) == usual[:2]
    rich = spec(deploy__data=[{"mount": "/data", "bucket": "weights"}], deploy__secrets={"KEY": "key"})
    assert {"storage.googleapis.com", "secretmanager.googleapis.com"} <= set(want.apis(rich, cloud_build=False))
    assert set(want.CLOUD_BUILD) <= set(want.permissions(None, cloud_build=True))


def test_only_an_open_service_needs_the_right_to_open_it() -> None:
    """Else everybody would be told to make the manager an administrator."""
    private, public = spec(), spec(deploy__public=True)
    assert want.PUBLIC not in want.permissions(private, cloud_build=False)
    assert want.PUBLIC in want.permissions(public, cloud_build=False)
    assert want.roles_for(["run.services.create", "logging.logEntries.list"]) == (
        "roles/run.developer",
        "roles/logging.viewer",
    )
    assert want.roles_for(["run.services.create", want.PUBLIC]) == ("roles/run.admin",)


@pytest.mark.parametrize(
    ("file", "bucket", "used"),
    [
        (None, "", False),
        (None, "sources", True),
        (spec(build__engine="cloud-build"), "", True),
        (spec(build__components={"custom_packages": {"apt": ["ffmpeg"]}}), "sources", True),
        (spec(build__components={"custom_packages": {"apt": ["ffmpeg"]}}), "", False),
        (spec(build__components={}), "sources", False),
    ],
)
def test_cloud_build_is_asked_about_where_it_may_build(file: DeploymentSpec | None, bucket: str, used: bool) -> None:
    assert want.uses_cloud_build(file, bucket) is used


def test_the_repository_is_that_of_the_file_in_the_region_of_the_file() -> None:
    assert want.repository_of(None, PLACE) == want.Repository("my-project", "us-central1", "cloud-deploy")
    moved = spec(deploy__region="europe-west4", build__components={})
    assert want.repository_of(moved, PLACE) == want.Repository("my-project", "europe-west4", "cloud-deploy")
    named = spec(build__image_uri="us-west1-docker.pkg.dev/other/team/a/b:1", build__components={})
    assert want.repository_of(named, PLACE) == want.Repository("other", "us-west1", "team")
    assert want.repository_of(spec(build__image_uri="gcr.io/p/a", build__components={}), PLACE) is None


def test_a_quota_is_held_against_the_most_instances_times_their_size() -> None:
    gpu = spec(deploy__resources={"gpu": 1}, deploy__scaling={"max_instances": 4})
    needs = {need.metric: need.total for need in want.needs_of(gpu)}
    assert needs == {
        "nvidia_l4_gpu_allocation_no_zonal_redundancy": 4,
        "cpu_allocation": 16_000,
        "mem_allocation": 4 * 16 * 2**30,
    }
    large = spec(deploy__resources={"gpu": 1, "gpu_type": "nvidia-rtx-pro-6000"})
    assert want.needs_of(large)[0].total == 1000, "counted in thousandths"
    assert [need.total for need in want.needs_of(spec())] == [1000, 512 * 2**20]


def test_a_region_s_own_limit_counts_before_that_of_all() -> None:
    def metric(*buckets: dict[str, Any]) -> dict[str, Any]:
        limit = {"unit": "1/min/{project}/{region}", "quotaBuckets": list(buckets)}
        return {"metric": "run.googleapis.com/cpu_allocation", "consumerQuotaLimits": [{"unit": "1/{project}"}, limit]}

    own = {"effectiveLimit": "5", "dimensions": {"region": "us-west1"}}
    rows = [metric({"effectiveLimit": "7"}, own)]
    assert [want.limit_of(rows, "cpu_allocation", region) for region in ("us-west1", "us-east1")] == [5, 7]
    assert want.limit_of([metric()], "cpu_allocation", "us-west1") is None
    assert want.limit_of(rows, "mem_allocation", "us-west1") is None


def test_gpus_that_come_with_the_first_deployment_are_no_lack() -> None:
    """A new project's quota says none until it has deployed once: it would never begin."""
    one = want.needs_of(spec(deploy__resources={"gpu": 1}, deploy__scaling={"max_instances": 3}))[0]
    four = want.needs_of(spec(deploy__resources={"gpu": 1}, deploy__scaling={"max_instances": 4}))[0]
    assert want.fits(one, 0) and not want.fits(four, 0)
    assert not want.fits(one, 2) and want.fits(four, -1)
    assert want.more_quota(four, "p", "us-west1").endswith("--preferred-value=4 --dimensions=region=us-west1")


def test_what_stands_in_a_command_cannot_leave_it() -> None:
    """It is copied into a shell."""
    assert want.gcloud("x", "a; rm -rf /") == "gcloud x 'a; rm -rf /'"


# --- other targets ----------------------------------------------------------------------------------------------


def preflights(folder: Path, *, away: bool = False, **settings: Any) -> Preflights:
    chosen = Settings(state_dir=folder, shared_root=folder, **settings)
    builder = FakeBuilder(Workshop(away=away))
    return Preflights(chosen, Catalog(chosen, builder, SystemClock()), builder)


def outcomes(report: Report) -> dict[str, str]:
    return {check.name: check.outcome for check in report.checks}


async def test_local_says_whether_it_is_allowed_and_what_runs_there(tmp_path: Path) -> None:
    report = await preflights(tmp_path, local_target=True).run(None, "local")
    assert outcomes(report) == {"allowed": "passed", "python": "passed", "disk": "passed", "builder": "passed"}
    refused = await preflights(tmp_path, away=True).run(spec(deploy__type="local"))
    assert outcomes(refused)["allowed"] == outcomes(refused)["builder"] == "failed"
    assert not refused.ok


async def test_a_secret_that_no_file_holds_is_told_before_the_build(tmp_path: Path) -> None:
    file = spec(deploy__type="local", deploy__secrets={"KEY": "api-key"}, build__components={})
    (tmp_path / "secrets").mkdir()
    asked = preflights(tmp_path, local_target=True, secrets_dir=tmp_path / "secrets")
    assert outcomes(await asked.run(file))["secrets"] == "failed"
    (tmp_path / "secrets" / "api-key").write_text("s3cret")
    report = await asked.run(file)
    assert outcomes(report)["secrets"] == "passed" and "s3cret" not in report.model_dump_json()


async def test_docker_says_that_nobody_answers(tmp_path: Path) -> None:
    report = await preflights(tmp_path, docker_host=f"unix://{tmp_path}/none.sock").run(None, "docker")
    assert outcomes(report) == {"engine": "failed", "gpu": "skipped", "disk": "failed", "builder": "passed"}


@pytest.mark.parametrize(
    ("info", "outcome"),
    [
        ({"Runtimes": {"runc": {}}}, "failed"),
        ({"Runtimes": {"runc": {}, "nvidia": {}}}, "passed"),
        ({"Runtimes": {}, "DiscoveredDevices": [{"Source": "cdi", "ID": "nvidia.com/gpu=0"}]}, "passed"),
    ],
)
def test_a_gpu_needs_a_runtime_of_the_engine(info: dict[str, Any], outcome: str) -> None:
    assert gpu_found(1, info).outcome == outcome


def test_a_folder_that_is_not_there_yet_is_on_the_disk_that_will_hold_it(tmp_path: Path) -> None:
    assert disk(tmp_path / "a" / "b", "this machine").outcome == "passed"


async def test_a_target_of_others_is_refused_with_a_way_out(tmp_path: Path) -> None:
    with pytest.raises(DeployError, match="TANGO deploys to Kubernetes"):
        await preflights(tmp_path).run(None, "k8s")


async def test_a_project_is_asked_about_by_its_own_file(tmp_path: Path) -> None:
    folder = tmp_path / "common" / "7" / "42"
    folder.mkdir(parents=True)
    (folder / "deployment.yaml").write_text("deploy:\n  type: local\n  entrypoint: [server.py]\n")
    report = await preflights(tmp_path, local_target=True).of_project(Key("7", "42"))
    assert report.target == "local" and outcomes(report)["file"] == "passed"
    with pytest.raises(DeployError, match="project 43"):
        await preflights(tmp_path).of_project(Key("7", "43"))


# --- by HTTP and by command -------------------------------------------------------------------------------------


@pytest.fixture
def face() -> Iterator[Face]:
    with served() as face:
        yield face


def test_the_api_asks_about_a_project_or_about_the_settings(face: Face) -> None:
    def get(query: str) -> requests.Response:
        return requests.get(f"{face.url}/api/v1/preflight{query}", timeout=10)

    assert get("?user_id=7&project_id=42").json()["ok"] is True
    assert get("?target=docker").json() == {
        "target": "docker",
        "ok": False,
        "checks": [{"name": "disk", "outcome": "failed", "cause": "no room", "fix": "make some", "commands": []}],
    }
    assert face.preflights.asked == [(Key("7", "42"), None), (None, "docker")]
    assert [get(query).status_code for query in ("?user_id=7", "?user_id=..&project_id=42")] == [400, 400]


def cloud_deploy(*words: object) -> int:
    with pytest.raises(SystemExit) as ended:
        main([str(word) for word in words])
    return int(ended.value.code or 0)


def answering(report: Report) -> Starlette:
    async def answer(request: Request) -> JSONResponse:
        assert request.query_params.get("target") == "gcp-cloudrun"
        return JSONResponse(report.model_dump(mode="json"))

    return Starlette(routes=[Route("/api/v1/preflight", answer)])


LONG = "gcloud artifacts repositories create cloud-deploy --repository-format=docker " + "--location=x" * 40


def test_a_person_sees_what_to_do_and_copies_it_whole(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [
        Check(name="credentials", outcome="passed", cause="serviceAccount:a@b"),
        Check(name="repository", outcome="failed", cause="there is none", fix="create it", commands=(LONG,)),
        Check(name="again", outcome="skipped", cause="cannot be asked", commands=(LONG,)),
        Check(name="gpu", outcome="skipped", cause="no GPU is asked for"),
    ]
    with serving_app(answering(Report.of("gcp-cloudrun", rows))) as url:
        assert cloud_deploy("preflight", "--target", "gcp-cloudrun", "--url", url) == 1
    shown = capsys.readouterr().out.splitlines()
    assert shown[0] == "✓ credentials  serviceAccount:a@b"
    assert shown[1:4] == ["✗ repository   there is none", f"{'':15}create it", f"      {LONG}"]
    assert shown.count(f"      {LONG}") == 1, "what mends two things is run once"
    assert shown[-1] == "gcp-cloudrun: 1 passed, 1 failed, 2 skipped"


def test_a_terminal_without_unicode_gets_its_answer() -> None:
    """Else the command would end with an error of python's in a bare container."""
    written = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    show(Report.of("docker", [Check(name="engine", outcome="passed", cause="it is")]), Console(file=written, width=80))
    written.seek(0)
    assert written.read().splitlines()[0] == "+ engine  it is"


def test_programs_read_json_and_the_exit_status(capsys: pytest.CaptureFixture[str]) -> None:
    good = Report.of("gcp-cloudrun", [Check(name="project", outcome="passed", cause="p")])
    with serving_app(answering(good)) as url:
        main_ends = cloud_deploy("preflight", "--target", "gcp-cloudrun", "--url", url, "--json")
    assert main_ends == 0 and json.loads(capsys.readouterr().out) == good.model_dump(mode="json")


def test_a_file_of_this_machine_is_not_asked_of_a_manager(tmp_path: Path) -> None:
    (tmp_path / "deployment.yaml").write_text("deploy: {type: local}\n")
    assert cloud_deploy("preflight", tmp_path, "--url", "http://127.0.0.1:1") == 2


def test_a_file_that_is_wrong_is_told_by_its_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "deployment.yaml").write_text("deploy:\n  type: local\n  entrypont: [server.py]\n")
    assert cloud_deploy("preflight", tmp_path) == 1
    assert "deployment.yaml:3:3" in capsys.readouterr().err
