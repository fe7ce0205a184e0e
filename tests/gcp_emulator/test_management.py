"""The APIs around the services, as REST: what Google's tools and a preflight ask before anything is spent."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.types import ASGIApp

from gcp_emulator import control, storage
from gcp_emulator.artifact_registry import create_app
from gcp_emulator.emulator import servers_of
from gcp_emulator.faults import Rule
from gcp_emulator.grants import APIS, Denial, Grants, api_of
from gcp_emulator.hosts import backends_of
from gcp_emulator.management_backend import management_app
from gcp_emulator.settings import Settings
from gcp_emulator.twin import Twin
from tests.gcp_emulator.run_stock import twin_of

PROJECT = "projects/twin-project"
PLACE = f"{PROJECT}/locations/us-central1"
REPOSITORY = f"{PLACE}/repositories/cloud-deploy"


class Web:
    """Calls of an application in this process."""

    def __init__(self, app: ASGIApp, headers: dict[str, str] | None = None) -> None:
        self._app = app
        self._headers = headers or {}

    def request(self, verb: str, url: str, body: Any = None, headers: dict[str, str] | None = None) -> httpx.Response:
        async def ask() -> httpx.Response:
            transport = httpx.ASGITransport(app=self._app)
            async with httpx.AsyncClient(transport=transport, base_url="http://control") as client:
                return await client.request(verb, url, json=body, headers=headers or self._headers)

        return asyncio.run(ask())


class Management:
    def __init__(self, folder: Path) -> None:
        (folder / "secrets").mkdir()
        (folder / "secrets" / "api-key").write_text("s3cret")
        self.twin: Twin = twin_of(Settings(state=folder / "state", secrets=folder / "secrets"))
        self.grants = Grants(self.twin.state, self.twin.settings.project_number)
        token = self.twin.tokens.issue(self.twin.settings.service_account, "cloud-platform")
        self.headers = {"Authorization": f"Bearer {token}"}
        self._client = Web(management_app(self.twin))

    def ask(self, verb: str, url: str, body: Any = None) -> tuple[int, dict[str, Any]]:
        answer = self._client.request(verb, f"https://{url}", body, self.headers)
        return answer.status_code, answer.json()


@pytest.fixture
def google(tmp_path: Path) -> Iterator[Management]:
    made = Management(tmp_path)
    yield made
    made.twin.state.close()


def test_an_api_is_disabled_and_enabled_again(google: Management) -> None:
    run = f"serviceusage.googleapis.com/v1/{PROJECT}/services/run.googleapis.com"
    assert google.ask("POST", f"{run}:disable")[1]["response"]["service"]["state"] == "DISABLED"
    names = f"names={PROJECT}/services/run.googleapis.com&names={PROJECT}/services/iam.googleapis.com"
    _, found = google.ask("GET", f"serviceusage.googleapis.com/v1/{PROJECT}/services:batchGet?{names}")
    assert [one["state"] for one in found["services"]] == ["DISABLED", "ENABLED"]
    _, enabled = google.ask("GET", f"serviceusage.googleapis.com/v1/{PROJECT}/services?filter=state:ENABLED")
    assert {one["config"]["name"] for one in enabled["services"]} == APIS.keys() - {"run.googleapis.com"}
    status, done = google.ask(
        "POST",
        f"serviceusage.googleapis.com/v1/{PROJECT}/services:batchEnable",
        {"serviceIds": ["run.googleapis.com"]},
    )
    assert (status, done["done"], google.grants.disabled) == (200, True, [])
    assert google.ask("GET", f"{run[: -len('run.googleapis.com')]}x.googleapis.com")[0] == 404


def test_what_is_disabled_answers_nothing_in_googles_words(google: Management) -> None:
    """A program must find out which API it is, and so the command that enables it."""
    google.grants.disable(["iam.googleapis.com"])
    status, answer = google.ask("GET", f"iam.googleapis.com/v1/{PROJECT}/serviceAccounts")
    assert (status, answer["error"]["status"]) == (403, "PERMISSION_DENIED")
    assert "has not been used in project" in answer["error"]["message"]
    [detail] = answer["error"]["details"]
    assert (detail["reason"], detail["metadata"]["service"]) == ("SERVICE_DISABLED", "iam.googleapis.com")


def test_permissions_that_are_taken_away_are_not_held(google: Management) -> None:
    google.grants.deny([Denial(permission="run.services.*"), Denial(permission="*", resource=REPOSITORY)])
    asked = {"permissions": ["run.services.create", "run.revisions.list"]}
    url = f"cloudresourcemanager.googleapis.com/v3/{PROJECT}:testIamPermissions"
    assert google.ask("POST", url, asked) == (200, {"permissions": ["run.revisions.list"]})
    writing = {"permissions": ["artifactregistry.repositories.uploadArtifacts"]}
    base = f"artifactregistry.googleapis.com/v1/{PLACE}/repositories/cloud-deploy:testIamPermissions"
    assert google.ask("POST", base, writing) == (200, {})
    assert google.ask("POST", url, {"permissions": ["run.*"]})[0] == 400


def test_a_project_that_is_another_s_is_not_to_be_seen(google: Management) -> None:
    assert google.ask("GET", f"cloudresourcemanager.googleapis.com/v3/{PROJECT}")[1]["state"] == "ACTIVE"
    for version in ("v1", "v3"):
        status, answer = google.ask("GET", f"cloudresourcemanager.googleapis.com/{version}/projects/other-project")
        assert (status, "or it may not exist" in answer["error"]["message"]) == (403, True)


def test_a_repository_is_made_once_and_only_docker_s_hold_images(google: Management) -> None:
    url = f"artifactregistry.googleapis.com/v1/{PLACE}/repositories"
    for name, format in (("mine", "DOCKER"), ("wheels", "PYTHON")):
        status, made = google.ask("POST", f"{url}?repositoryId={name}", {"format": format})
        assert (status, made["response"]["name"]) == (200, f"{PLACE}/repositories/{name}")
        assert google.ask("POST", f"{url}?repositoryId={name}", {"format": format})[0] == 409
    rows = {row["name"].rsplit("/", 1)[1]: row["format"] for row in google.ask("GET", url)[1]["repositories"]}
    assert rows == {"cloud-deploy": "DOCKER", "mine": "DOCKER", "wheels": "PYTHON"}
    assert google.ask("GET", f"{url}/missing")[0] == 404
    elsewhere = f"artifactregistry.googleapis.com/v1/{PROJECT}/locations/us-west1/repositories/mine"
    assert google.ask("GET", elsewhere)[0] == 404


def test_images_go_to_a_repository_that_was_made_and_to_none_of_another_kind(google: Management) -> None:
    registry = Web(create_app(google.twin), google.headers)
    url = f"artifactregistry.googleapis.com/v1/{PLACE}/repositories"
    google.ask("POST", f"{url}?repositoryId=mine", {"format": "DOCKER"})
    google.ask("POST", f"{url}?repositoryId=wheels", {"format": "PYTHON"})
    for name, status in (("mine", 202), ("wheels", 404), ("missing", 404)):
        base = f"https://us-central1-docker.pkg.dev/v2/twin-project/{name}/a/blobs/uploads/"
        assert registry.request("POST", base).status_code == status, name
    google.grants.disable(["artifactregistry.googleapis.com"])
    refused = registry.request("GET", "https://us-central1-docker.pkg.dev/v2/")
    assert (refused.status_code, refused.json()["errors"][0]["code"]) == (403, "DENIED")


def test_storage_says_in_its_own_form_that_it_is_disabled(google: Management) -> None:
    settings = google.twin.settings
    app = storage.create_app(
        google.twin.state, google.twin.faults, google.twin.clock, lambda header: header, settings.project_number
    )
    client = Web(app, google.headers)
    made = client.request(
        "POST", "https://storage.googleapis.com/storage/v1/b?project=twin-project", {"name": "weights-1"}
    )
    assert made.status_code == 200
    google.grants.deny([Denial(permission="storage.objects.create")])
    asked = "permissions=storage.objects.get&permissions=storage.objects.create"
    held = client.request("GET", f"https://storage.googleapis.com/storage/v1/b/weights-1/iam/testPermissions?{asked}")
    assert held.json()["permissions"] == ["storage.objects.get"]
    google.grants.disable(["storage.googleapis.com"])
    refused = client.request("GET", "https://storage.googleapis.com/storage/v1/b/weights-1").json()["error"]
    assert (refused["code"], refused["errors"][0]["reason"]) == (403, "accessNotConfigured")


def test_secrets_tell_that_they_are_there_and_never_their_value(google: Management) -> None:
    base = f"secretmanager.googleapis.com/v1/{PROJECT}/secrets"
    assert google.ask("GET", f"{base}/api-key")[0] == 200
    version = google.ask("GET", f"{base}/api-key/versions/latest")
    assert version[1]["state"] == "ENABLED" and "s3cret" not in str(version)
    assert google.ask("GET", f"{base}/missing")[0] == 404
    assert google.ask("GET", f"{base}/..%2Fstate")[0] in (404, 501)
    policy = {"bindings": [{"role": "roles/secretmanager.secretAccessor", "members": ["serviceAccount:a@b"]}]}
    assert google.ask("POST", f"{base}/api-key:setIamPolicy", {"policy": policy})[0] == 200
    assert google.ask("GET", f"{base}/api-key:getIamPolicy")[1]["bindings"] == policy["bindings"]


def test_service_accounts_are_made_and_tested(google: Management) -> None:
    base = f"iam.googleapis.com/v1/{PROJECT}/serviceAccounts"
    email = "runner@twin-project.iam.gserviceaccount.com"
    acting = {"permissions": ["iam.serviceAccounts.actAs"]}
    anywhere = f"iam.googleapis.com/v1/projects/-/serviceAccounts/{email}:testIamPermissions"
    assert google.ask("POST", anywhere, acting)[0] == 404
    assert google.ask("POST", base, {"accountId": "runner"})[1]["email"] == email
    assert google.ask("POST", base, {"accountId": "runner"})[0] == 409
    assert google.ask("POST", anywhere, acting) == (200, acting)
    google.grants.deny([Denial(permission="iam.serviceAccounts.actAs", resource=f"*/{email}")])
    assert google.ask("POST", anywhere, acting) == (200, {})


def test_a_role_that_is_bound_gives_back_what_was_denied(google: Management) -> None:
    """Else no command that mends could be tried; a policy that was changed meanwhile is not overwritten."""
    google.grants.deny([Denial(permission="run.*")])
    url = f"cloudresourcemanager.googleapis.com/v1/{PROJECT}"
    policy = google.ask("POST", f"{url}:getIamPolicy")[1]
    member = f"serviceAccount:{google.twin.settings.service_account}"
    policy["bindings"].append({"role": "roles/run.developer", "members": [member]})
    assert google.ask("POST", f"{url}:setIamPolicy", {"policy": policy})[0] == 200
    assert google.ask("POST", f"{url}:setIamPolicy", {"policy": policy})[0] == 409
    asked = {"permissions": ["run.services.create", "run.services.setIamPolicy"]}
    held = google.ask("POST", f"{url}:testIamPermissions", asked)
    assert held == (200, {"permissions": ["run.services.create"]}), "to open a service takes the administrator"


def test_a_reader_without_the_permission_is_told_which_it_is(google: Management) -> None:
    google.grants.deny([Denial(permission="serviceusage.*")])
    status, answer = google.ask("GET", f"serviceusage.googleapis.com/v1/{PROJECT}/services")
    assert (status, "'serviceusage.services.list' denied" in answer["error"]["message"]) == (403, True)


def test_callers_are_known_faults_strike_and_the_rest_is_named(google: Management) -> None:
    google.twin.faults.add(Rule(call="GET iam.googleapis.com/*", code="UNAVAILABLE"))
    url = f"iam.googleapis.com/v1/{PROJECT}/serviceAccounts"
    assert [google.ask("GET", url)[0] for _ in range(2)] == [503, 200]
    status, answer = google.ask("DELETE", f"iam.googleapis.com/v1/{PROJECT}/serviceAccounts/a@b")
    assert (status, answer["error"]["status"]) == (501, "UNIMPLEMENTED")
    google.headers = {}
    assert google.ask("GET", url)[0] == 401


def test_each_api_has_a_host_that_is_served(google: Management) -> None:
    assert all(backends_of(api) for api in APIS)
    assert {"management"} == {
        name for api in ("iam", "secretmanager") for name in backends_of(f"{api}.googleapis.com").values()
    }
    assert api_of("us-central1-run.googleapis.com") == api_of("/google.cloud.run.v2.Services/GetService")
    assert api_of("us-docker.pkg.dev") == "artifactregistry.googleapis.com"
    assert servers_of(google.twin).keys() >= {"management"}


def test_the_control_api_takes_away_and_gives_back(google: Management) -> None:
    client = Web(control.create_app(google.twin.faults, google.grants))
    client.request("PUT", "/denials", [{"permission": "run.services.create"}])
    client.request("PUT", "/disabled", ["run.googleapis.com"])
    assert not google.grants.holds("run.services.create", PROJECT)
    assert (client.request("GET", "/disabled").json(), len(client.request("GET", "/denials").json())) == (
        ["run.googleapis.com"],
        1,
    )
    client.request("PUT", "/denials", [])
    client.request("PUT", "/disabled", [])
    assert google.grants.holds("run.services.create", PROJECT) and google.grants.disabled == []
