"""The preflight of `gcp-cloudrun` against the twin of Google: each thing that can be wrong, and the command for it."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from google.auth.credentials import Credentials

from cloud_manager.clock import SystemClock
from cloud_manager.deployment_spec import DeploymentSpec
from cloud_manager.preflight import Check, Report
from cloud_manager.preflights import Preflights
from cloud_manager.settings import Settings
from cloud_manager.targets.catalog import Catalog
from cloud_manager.targets.google_rest import GoogleRest
from gcp_emulator.faults import Rule
from gcp_emulator.grants import Denial, Grants
from gcp_emulator.twin import Twin
from tests.fakes.builder import FakeBuilder
from tests.gcp_emulator.emulated import emulated

MEMBER = "serviceAccount:cloud-deploy@twin-project.iam.gserviceaccount.com"
_NAMES = ("https_proxy", "no_proxy", "REQUESTS_CA_BUNDLE", "GOOGLE_APPLICATION_CREDENTIALS")


@dataclass
class Stage:
    twin: Twin
    grants: Grants

    async def ask(self, file: DeploymentSpec | None = None, **settings: Any) -> Report:
        usual = {"gcp_project": "twin-project", "gcp_region": "us-central1", **settings}
        chosen, builder = Settings(**usual), FakeBuilder()
        catalog = Catalog(chosen, builder, SystemClock())
        return await Preflights(chosen, catalog, builder).run(file, "gcp-cloudrun")

    async def check(self, name: str, file: DeploymentSpec | None = None, **settings: Any) -> Check:
        return next(check for check in (await self.ask(file, **settings)).checks if check.name == name)


@pytest.fixture
async def google(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Stage]:
    (tmp_path / "secrets" / "two").mkdir(parents=True)
    (tmp_path / "secrets" / "api-key").write_text("s3cret")
    (tmp_path / "secrets" / "two" / "2").write_text("s3cret")
    async with emulated(tmp_path / "state", secrets=tmp_path / "secrets") as (twin, up):
        for name in _NAMES:
            monkeypatch.setenv(name, up.variables[name])
        yield Stage(twin, Grants(twin.state, twin.settings.project_number))


def spec(**deploy: Any) -> DeploymentSpec:
    build = deploy.pop("build", {"components": {}, "base_image": "scratch"})
    return DeploymentSpec.model_validate({"deploy": {"type": "gcp-cloudrun", **deploy}, "build": build})


async def test_all_is_well_and_nothing_was_changed(google: Stage) -> None:
    """Whoever asks must not find a repository, a service or a bill afterwards."""
    file = spec(resources={"gpu": 1}, secrets={"KEY": "api-key"}, public=True)
    report = await google.ask(file)
    assert {check.name: check.outcome for check in report.checks} == dict.fromkeys(
        (
            "file", "credentials", "project", "apis", "permissions", "service_account", "repository", "region",
            "accelerator", "quota", "secret:api-key", "builder",
        ),
        "passed",
    )  # fmt: skip
    whose = next(check.cause for check in report.checks if check.name == "credentials")
    assert whose == MEMBER and "s3cret" not in report.model_dump_json()
    harmless = ("GET ", "POST oauth2.googleapis.com/", "google.cloud.location.Locations.ListLocations")
    reading = (":testIamPermissions", ":getIamPolicy")
    calls = [call for call in google.twin.faults.calls if not call.startswith(harmless)]
    assert all(call.endswith(reading) for call in calls), calls
    assert max(google.twin.faults.calls.values()) <= 3, "what several questions need is asked once"


async def test_an_api_that_is_not_enabled(google: Stage) -> None:
    google.grants.disable(["run.googleapis.com", "logging.googleapis.com"])
    report = await google.ask()
    rows = {check.name: check for check in report.checks}
    command = "gcloud services enable run.googleapis.com logging.googleapis.com --project=twin-project"
    assert (rows["apis"].outcome, rows["apis"].commands) == ("failed", (command,))
    assert rows["region"].outcome == "skipped" and "run.googleapis.com is not enabled" in rows["region"].cause
    assert rows["repository"].outcome == "passed" and not report.ok


async def test_what_answers_the_questions_may_be_disabled_itself(google: Stage) -> None:
    """Most new projects lack these; that they are off stops no deployment, so it is no failure."""
    off = ["serviceusage.googleapis.com", "cloudresourcemanager.googleapis.com", "iam.googleapis.com"]
    google.grants.disable(off)
    report = await google.ask()
    rows = {check.name: check for check in report.checks}
    for name, api in (("apis", off[0]), ("permissions", off[1]), ("project", off[1])):
        assert rows[name].outcome == "skipped", rows[name]
        assert rows[name].commands == (f"gcloud services enable {api} --project=twin-project",)
    assert report.ok


async def test_permissions_that_are_missing_are_named_with_the_least_role(google: Stage) -> None:
    google.grants.deny([Denial(permission="run.services.create"), Denial(permission="logging.*")])
    check = await google.check("permissions")
    assert "run.services.create, logging.logEntries.list" in check.cause
    grant = f"gcloud projects add-iam-policy-binding twin-project --condition=None --member={MEMBER} --role=roles/"
    assert (check.outcome, check.commands) == ("failed", (f"{grant}run.developer", f"{grant}logging.viewer"))


async def test_an_open_service_needs_more_rights_than_a_private_one(google: Stage) -> None:
    google.grants.deny([Denial(permission="run.services.setIamPolicy")])
    assert (await google.check("permissions", spec())).outcome == "passed"
    check = await google.check("permissions", spec(public=True))
    assert check.outcome == "failed" and check.commands[0].endswith("--role=roles/run.admin")


async def test_who_may_not_be_asked_says_so(google: Stage) -> None:
    google.grants.deny([Denial(permission="serviceusage.*"), Denial(permission="artifactregistry.repositories.get")])
    report = await google.ask(spec(resources={"gpu": 1}))
    rows = {check.name: check for check in report.checks}
    for name, role in (("apis", "serviceusage.serviceUsageViewer"), ("quota", "serviceusage.serviceUsageViewer")):
        assert rows[name].outcome == "skipped" and rows[name].commands[0].endswith(f"--role=roles/{role}")
    assert rows["repository"].outcome == "skipped" and "may not ask" in rows["repository"].cause
    assert report.ok


async def test_who_may_not_act_as_the_program_s_account(google: Stage) -> None:
    google.grants.deny([Denial(permission="iam.serviceAccounts.actAs")])
    runner = f"{google.twin.settings.project_number}-compute@developer.gserviceaccount.com"
    check = await google.check("service_account")
    assert check.commands == (
        f"gcloud iam service-accounts add-iam-policy-binding {runner} --project=twin-project --member={MEMBER}"
        " --role=roles/iam.serviceAccountUser",
    )


async def test_an_account_that_there_is_not(google: Stage) -> None:
    named = spec(service_account="runner@twin-project.iam.gserviceaccount.com")
    check = await google.check("service_account", named)
    assert check.commands == ("gcloud iam service-accounts create runner --project=twin-project",)


async def test_a_project_that_is_not_ours(google: Stage) -> None:
    rows = {check.name: check for check in (await google.ask(gcp_project="other-project")).checks}
    assert rows["project"].outcome == "failed" and "does not exist" in rows["project"].cause
    assert rows["service_account"].outcome == "skipped"


@pytest.mark.parametrize(
    ("name", "words", "command"),
    [
        ("missing", "there is no repository", "gcloud artifacts repositories create missing"),
        ("wheels", "is for python", "gcloud artifacts repositories create cloud-deploy"),
        ("cloud-deploy", "lacks on cloud-deploy", "gcloud artifacts repositories add-iam-policy-binding cloud-deploy"),
    ],
)
async def test_a_repository_that_cannot_be_published_to(google: Stage, name: str, words: str, command: str) -> None:
    row = {"format": "PYTHON", "created": 0.0}
    google.twin.state.json_table("repositories").put("us-central1/wheels", row)
    google.grants.deny([Denial(permission="artifactregistry.repositories.uploadArtifacts", resource="*/cloud-deploy")])
    check = await google.check("repository", artifact_repository=name)
    assert check.outcome == "failed" and words in check.cause and check.commands[0].startswith(command)


async def test_a_prebuilt_image_needs_no_repository(google: Stage) -> None:
    prebuilt = spec(build={"image_uri": "us-docker.pkg.dev/cloudrun/container/hello"})
    assert (await google.check("repository", prebuilt)).outcome == "skipped"


async def test_a_region_that_there_is_not_and_one_without_the_gpu(google: Stage) -> None:
    assert (await google.check("region", gcp_region="us-nowhere1")).outcome == "failed"
    moved = spec(resources={"gpu": 1, "gpu_type": "nvidia-rtx-pro-6000"}, region="europe-west1")
    google.grants.deny([Denial(permission="serviceusage.quotas.get")])
    check = await google.check("accelerator", moved, gcp_regions="europe-west1")
    assert check.outcome == "skipped" and "is not known here to offer" in check.cause
    google.grants.deny([])
    told = await google.check("accelerator", moved, gcp_regions="europe-west1")
    assert told.outcome == "passed" and "has a quota for it" in told.cause


async def test_more_than_the_quota(google: Stage) -> None:
    check = await google.check("quota", spec(resources={"gpu": 1}, scaling={"max_instances": 9}))
    assert "9 x 1 nvidia-l4 needs 9 of nvidia_l4_gpu_allocation_no_zonal_redundancy, 3 are granted" in check.cause
    assert check.commands == (
        "gcloud beta quotas preferences create --service=run.googleapis.com --project=twin-project"
        " --quota-id=NvidiaL4GpuAllocNoZonalRedundancyPerProjectRegion --preferred-value=9"
        " --dimensions=region=us-central1",
    )
    many = spec(resources={"cpu": 8, "memory": 4096}, scaling={"max_instances": 100})
    assert "100 x 8 CPU needs 800000 of cpu_allocation, 200000 are granted" in (await google.check("quota", many)).cause


async def test_secrets_that_are_missing_or_not_to_be_read(google: Stage) -> None:
    file = spec(secrets={"A": "api-key", "B": "missing", "C": "two:7", "D": "two:2"})
    rows = {check.name: check for check in (await google.ask(file)).checks if check.name.startswith("secret:")}
    assert [rows[f"secret:{name}"].outcome for name in ("api-key", "two:2")] == ["passed", "passed"]
    assert "there is no secret missing" in rows["secret:missing"].cause
    assert "has no version 7" in rows["secret:two:7"].cause
    others = spec(secrets={"A": "api-key"}, service_account=MEMBER.partition(":")[2])
    assert (await google.check("secret:api-key", others)).outcome == "passed", "an owner of the project reads all"
    stranger = spec(secrets={"A": "api-key"}, service_account="runner@twin-project.iam.gserviceaccount.com")
    check = await google.check("secret:api-key", stranger)
    assert check.commands == (
        "gcloud secrets add-iam-policy-binding api-key"
        " --member=serviceAccount:runner@twin-project.iam.gserviceaccount.com"
        " --role=roles/secretmanager.secretAccessor --project=twin-project",
    )
    google.grants.deny([Denial(permission="secretmanager.secrets.getIamPolicy")])
    assert (await google.check("secret:api-key", stranger)).outcome == "skipped"


async def test_buckets_of_data_and_of_cloud_build(google: Stage) -> None:
    file = spec(data=[{"mount": "/data", "bucket": "weights-1"}], build={"engine": "cloud-build", "components": {}})
    rows = {check.name: check for check in (await google.ask(file, cloud_build_bucket="sources-1")).checks}
    create = "gcloud storage buckets create gs://{} --location=us-central1 --project=twin-project"
    assert rows["bucket:weights-1"].commands == (create.format("weights-1"),)
    assert rows["cloud_build_bucket"].commands == (create.format("sources-1"),)
    unset = await google.check("cloud_build_bucket", file)
    assert unset.outcome == "skipped" and "CLOUD_BUILD_BUCKET is not set" in unset.cause


async def test_who_builds_in_cloud_build(google: Stage) -> None:
    """Else the first build is refused, once the source has been sent."""
    file = spec(build={"engine": "cloud-build", "components": {}})
    builder = google.twin.settings.compute_account
    assert builder in (await google.check("cloud_build_account", file)).cause
    google.grants.deny([Denial(permission="iam.serviceAccounts.actAs")])
    check = await google.check("cloud_build_account", file)
    assert check.outcome == "failed" and f"add-iam-policy-binding {builder}" in check.commands[0]


async def test_credentials_that_are_no_good(google: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Then nothing else can be asked, and says that it waits for them."""
    key = json.loads(Path(os.environ["GOOGLE_APPLICATION_CREDENTIALS"]).read_text())
    other = tmp_path / "key.json"
    for changed, words in ((None, "was not found"), ({"client_email": "x@y.iam.gserviceaccount.com"}, "refuses")):
        if changed is not None:
            other.write_text(json.dumps({**key, **changed}))
        monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(other))
        rows = {check.name: check for check in (await google.ask()).checks}
        assert words in rows["credentials"].cause, rows["credentials"]
        assert rows["credentials"].commands == ("gcloud auth application-default login",)
        assert rows["apis"].cause == "waits for the credentials" and rows["builder"].outcome == "passed"


async def test_a_google_that_is_away_is_no_verdict(google: Stage) -> None:
    google.twin.faults.add(Rule(call="GET artifactregistry.googleapis.com/*", code="UNAVAILABLE", times=0))
    google.twin.faults.add(Rule(call="POST oauth2.googleapis.com/token", code="UNAVAILABLE", nth=2, times=0))
    report = await google.ask()
    rows = {check.name: check for check in report.checks}
    assert rows["repository"].outcome == "skipped" and "503" in rows["repository"].cause
    assert rows["apis"].outcome == "passed"


async def test_without_a_project_the_settings_are_what_is_missing(google: Stage) -> None:
    rows = {check.name: check for check in (await google.ask(gcp_project="")).checks}
    assert (rows["settings"].outcome, rows["settings"].cause) == ("failed", "GCP_PROJECT is not set")
    assert rows["credentials"].outcome == rows["project"].outcome == "skipped" and rows["builder"].outcome == "passed"
    rows = {check.name: check for check in (await google.ask(gcp_region="")).checks}
    assert rows["settings"].commands == ("gcloud run regions list",)


async def test_a_person_s_credentials_are_named_as_a_person_s(google: Stage) -> None:
    """Else the commands that are printed would grant nobody anything."""
    own = Person(google.twin.tokens.issue("someone@example.com", "cloud-platform"))
    asked = GoogleRest(own)
    assert await asyncio.to_thread(asked.renew) == "user:someone@example.com"
    assert own.asked and all("access_token" not in call for call in google.twin.faults.calls)
    asked.close()


class Person(Credentials):  # type: ignore[misc]
    """As after `gcloud auth application-default login`: it does not say whose it is."""

    def __init__(self, token: str) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.given, self.asked = token, 0

    def refresh(self, request: Any) -> None:
        self.token, self.asked = self.given, self.asked + 1
