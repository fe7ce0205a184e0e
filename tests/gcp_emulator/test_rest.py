"""The REST side of what speaks gRPC, judged by Google's own REST client through the proxy."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest
from google.cloud import run_v2

from gcp_emulator.hosts import Backend
from gcp_emulator.http_server import Server
from gcp_emulator.rest import WithRest
from gcp_emulator.rest_messages import BadRequest, fill, shown
from gcp_emulator.rest_rules import CLOUD_BUILD, LOGGING, RUN, match
from gcp_emulator.run_backend import RunServer, cloud_run, grpc_server
from gcp_emulator.twin import Twin
from tests.conformance.harness import until
from tests.gcp_emulator.emulated import emulated
from tests.gcp_emulator.run_stock import IMAGE, LoopbackRuntime

STOCK = """
import google.api_core.exceptions as errors
from google.cloud import run_v2
from google.iam.v1 import policy_pb2
client = run_v2.ServicesClient(transport="rest")
parent = "projects/twin-project/locations/us-central1"
container = run_v2.Container(image="us-central1-docker.pkg.dev/twin-project/cloud-deploy/hello")
service = run_v2.Service(template=run_v2.RevisionTemplate(containers=[container]), labels={"a": "b"})
operation = client.create_service(parent=parent, service=service, service_id="hello")
made = operation.result(timeout=30)
assert made.name == parent + "/services/hello" and made.labels == {"a": "b"}, made
assert [one.name for one in client.list_services(parent=parent)] == [made.name]
assert client.get_service(name=made.name).etag == made.etag
assert [r.name for r in run_v2.RevisionsClient(transport="rest").list_revisions(parent=made.name)]
made.labels["c"] = "d"
assert client.update_service(service=made).result(timeout=30).labels["c"] == "d"
assert list(client.get_iam_policy({"resource": made.name}).bindings) == []
try:
    client.get_service(name=parent + "/services/none")
except errors.NotFound as error:
    assert "none" in str(error), error
else:
    raise AssertionError
client.delete_service(name=made.name).result(timeout=30)
assert list(client.list_services(parent=parent)) == []
print("all of it")
"""


def served(twin: Twin) -> dict[Backend, Server]:
    run = cloud_run(twin, LoopbackRuntime(), pace=0.0)
    both = WithRest(RunServer(run, grpc_server(twin, run.services)), run.services)
    return {"grpc": both, "rest": both.rest}


async def test_googles_rest_client_works_with_what_grpc_serves(tmp_path: Path) -> None:
    """`gcloud` and Terraform speak REST: they would find nothing of what was deployed by gRPC."""
    async with emulated(tmp_path, served) as (twin, up):
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", STOCK, env=dict(up.variables), stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        out, error = await asyncio.wait_for(process.communicate(), 100)
        assert out.decode().strip() == "all of it", error.decode()
        assert twin.faults.calls["google.cloud.run.v2.Services.CreateService"] == 1


async def test_gcloud_finds_lists_and_deletes_a_service_in_its_older_words(tmp_path: Path) -> None:
    path = "/apis/serving.knative.dev/v1/namespaces/twin-project/services"
    async with (
        emulated(tmp_path, served) as (twin, up),
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{up.ports['rest']}") as client,
    ):
        token = twin.tokens.issue(twin.settings.service_account, "")
        client.headers = httpx.Headers({"Host": "us-central1-run.googleapis.com", "Authorization": f"Bearer {token}"})
        place, wish = "/v2/projects/twin-project/locations/us-central1/services", {"containers": [{"image": IMAGE}]}
        made = await client.post(place, params={"serviceId": "hello"}, json={"template": wish, "labels": {"a": "b"}})
        assert made.status_code == 200, made.text

        async def ready() -> Any:
            found = (await client.get(f"{path}/hello")).json()
            return found if found["status"]["conditions"][0]["status"] == "True" else None

        found = await until(ready, "it is ready")
        assert found["metadata"]["labels"] == {"a": "b", "cloud.googleapis.com/location": "us-central1"}
        assert found["status"]["traffic"][0]["percent"] == 100
        assert found["status"]["url"].startswith("https://hello-")
        assert found["spec"]["template"]["spec"]["containers"][0]["image"] == IMAGE
        assert (await client.get(path)).json()["items"] == [found]
        assert (await client.delete(f"{path}/hello")).json() == {"kind": "Status", "status": "Success"}

        async def gone() -> bool:
            return (await client.get(f"{path}/hello")).status_code == 404

        await until(gone, "it is gone")


async def test_what_is_not_served_says_so_by_its_name(tmp_path: Path) -> None:
    async with (
        emulated(tmp_path, served) as (twin, up),
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{up.ports['rest']}") as client,
    ):

        async def ask(host: str, path: str) -> tuple[int, str]:
            token = twin.tokens.issue(twin.settings.service_account, "")
            headers = {"Host": host, "Authorization": f"Bearer {token}"}
            error = (await client.get(path, headers=headers)).json()["error"]
            return error["code"], error["message"]

        knative = "/apis/serving.knative.dev/v1/namespaces/twin-project/routes"
        assert await ask("us-central1-run.googleapis.com", knative) == (
            501, f"GET us-central1-run.googleapis.com{knative} is not served by gcp_emulator.",
        )  # fmt: skip
        code, words = await ask("cloudbuild.googleapis.com", "/v1/projects/p/locations/us-central1/triggers")
        assert code == 501 and "triggers is not served" in words
        code, words = await ask("run.googleapis.com", "/v2/projects/twin-project/locations/us-central1/services?x=1")
        assert code == 400 and 'Unknown name "x"' in words
        anonymous = await client.get(
            "/v2/projects/twin-project/locations/us-central1/services", headers={"Host": "run.googleapis.com"}
        )
        assert anonymous.status_code == 401 and anonymous.json()["error"]["status"] == "UNAUTHENTICATED"


@pytest.mark.parametrize(
    ("verb", "path", "method", "fields"),
    [
        ("GET", "/v2/projects/p/locations/r/services/s", "GetService", {"name": "projects/p/locations/r/services/s"}),
        (
            "PATCH", "/v2/projects/p/locations/r/services/s", "UpdateService",
            {"service.name": "projects/p/locations/r/services/s"},
        ),
        ("GET", "/v1/projects/p/builds/1", "GetBuild", {"project_id": "p", "id": "1"}),
        ("POST", "/v1/projects/p/builds/1:cancel", "CancelBuild", {"project_id": "p", "id": "1"}),
        ("GET", "/v1/operations/build/p/abc", "GetOperation", {"name": "operations/build/p/abc"}),
        ("POST", "/v2/entries:list", "ListLogEntries", {}),
    ],
)  # fmt: skip
def test_paths(verb: str, path: str, method: str, fields: dict[str, str]) -> None:
    found = match((*RUN, *CLOUD_BUILD, *LOGGING), verb, path)
    assert found and found.method.endswith(f"/{method}") and found.fields == fields
    assert match(RUN, verb, f"{path}/more/of/it") is None


def test_parameters_become_fields_of_their_kind() -> None:
    message = run_v2.CreateServiceRequest.pb()()
    parameters = [("validateOnly", "true"), ("service_id", "s"), ("$alt", "json"), ("service.launch_stage", "4")]
    fill(message, "service", b'{"labels": {"a": "b"}}', parameters)
    assert shown(message) == {
        "service": {"labels": {"a": "b"}, "launchStage": "GA"}, "serviceId": "s", "validateOnly": True,
    }  # fmt: skip
    for body in (b"{", b'{"none": 1}', b"[" * 100_000):
        with pytest.raises(BadRequest):
            fill(message, "service", body, [])
