"""Services that really run: images of layers only, fetched from the twin's registry, as processes of this machine."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import psutil
import pytest
from google.api_core import exceptions
from google.cloud import run_v2

from gcp_emulator import artifact_registry
from gcp_emulator.http_server import HttpServer
from gcp_emulator.run_backend import Located, runtime_of
from gcp_emulator.runtime_process import carriers
from gcp_emulator.runtime_protocol import Runtime
from gcp_emulator.settings import Settings
from gcp_emulator.twin import Twin
from tests.gcp_emulator.run_images import CRASH, HOST, SERVER, push
from tests.gcp_emulator.run_stock import PARENT, Stock, service, stock

NAME = f"{PARENT}/services/hello"


class Registry:
    """The twin's, on a port of its own."""

    located: Located

    def runtime(self, twin: Twin) -> Runtime:
        self.located = Located(HttpServer(artifact_registry.create_app(twin)))
        self.twin = twin
        return runtime_of(twin, self.located)

    def client(self) -> httpx.AsyncClient:
        token = self.twin.tokens.issue(self.twin.settings.service_account, "")
        headers = {"Authorization": f"Bearer {token}", "Host": HOST}
        return httpx.AsyncClient(base_url=f"http://127.0.0.1:{self.located.port}", headers=headers, trust_env=False)


@pytest.fixture
async def registry() -> Registry:
    return Registry()


@pytest.fixture
async def google(tmp_path: Path, registry: Registry) -> AsyncIterator[Stock]:
    secrets = tmp_path / "secrets"
    (secrets / "token").mkdir(parents=True)
    (secrets / "token" / "2").write_text("second\n")
    (secrets / "plain").write_text("one for all")
    (tmp_path / "shared" / "models").mkdir(parents=True)
    (tmp_path / "shared" / "models" / "large.bin").write_text("large")
    exports = (f"10.0.0.2:/export={tmp_path / 'shared'}",)
    async with stock(tmp_path, registry.runtime, secrets=secrets, nfs=exports) as found:
        await registry.located.start()
        identity = _identity(found)
        try:
            yield found
        finally:
            await registry.located.stop()
    assert not carriers(identity), "processes were left behind"


def _identity(google: Stock) -> str:
    """What all of its processes carry."""
    return str(google.twin.state.json_table("run").get("identity"))


async def test_a_deployed_program_answers_with_what_it_was_given(google: Stock, registry: Registry) -> None:
    async with registry.client() as client:
        image = await push(client, "hello", {"app/main.py": SERVER})
    secret = run_v2.SecretKeySelector(secret="token", version="2")
    container = run_v2.Container(
        image=image,
        args=["--verbose"],
        env=[
            run_v2.EnvVar(name="COLOUR", value="green"),
            run_v2.EnvVar(name="TOKEN", value_source=run_v2.EnvVarSource(secret_key_ref=secret)),
        ],
    )
    made = await google.create(service(template={"containers": [container]}, invoker_iam_disabled=True))
    seen = (await google.web.get(f"{made.uri}/path?a=1")).json()
    assert seen["path"] == "/path?a=1"
    assert seen["argv"] == ["--verbose"]
    assert seen["host"] == made.uri.removeprefix("https://")
    env = seen["env"]
    assert (env["COLOUR"], env["TOKEN"], env["GREETING"]) == ("green", "second", "hello")
    assert (env["K_SERVICE"], env["K_CONFIGURATION"]) == ("hello", "hello")
    assert made.latest_ready_revision.endswith(env["K_REVISION"])
    assert (await google.web.post(made.uri, content=b"abc")).text == "cba"
    log = google.twin.settings.state / "run" / "logs" / f"{env['K_REVISION']}.jsonl"
    assert json.loads(log.read_text().splitlines()[0])["text"] == f"listening on {env['PORT']}"


def mounted(image: str, volume: run_v2.Volume) -> run_v2.Service:
    container = run_v2.Container(
        image=image,
        env=[run_v2.EnvVar(name="DATA", value="/mnt/data")],
        volume_mounts=[run_v2.VolumeMount(name="data", mount_path="/mnt/data")],
    )
    return service(template={"containers": [container], "volumes": [volume]}, name=NAME, invoker_iam_disabled=True)


def nfs(server: str, path: str) -> run_v2.Volume:
    return run_v2.Volume(name="data", nfs=run_v2.NFSVolumeSource(server=server, path=path, read_only=True))


async def test_volumes_are_folders_of_buckets_secrets_and_nfs_servers(google: Stock, registry: Registry) -> None:
    from gcp_emulator.storage_store import Store  # the part of the twin next door

    store = Store(google.twin.state, google.twin.clock, google.twin.settings.project_number)
    google.twin.state.json_table("storage.buckets").put("weights", {"name": "weights"})
    blob = store.blobs.new()
    blob.write_bytes(b"weights")
    store.blobs.keep(blob, "1")
    row = {"resource": {"bucket": "weights", "name": "model.bin"}, "blob": "1"}
    google.twin.state.json_table("storage.objects").put("weights/model.bin", row)
    async with registry.client() as client:
        image = await push(client, "hello", {"app/main.py": SERVER})
    for volume, files in (
        (run_v2.Volume(name="data", gcs=run_v2.GCSVolumeSource(bucket="weights", read_only=True)), ["model.bin"]),
        (run_v2.Volume(name="data", secret=run_v2.SecretVolumeSource(secret="plain")), ["plain"]),
        (nfs("10.0.0.2", "/export"), ["models"]),
        (nfs("10.0.0.2", "/export/models/"), ["large.bin"]),
    ):
        made = await google.update(mounted(image, volume), allow_missing=True)
        assert (await google.web.get(made.uri)).json()["files"] == files


@pytest.mark.parametrize("where", [("10.0.0.3", "/export"), ("10.0.0.2", "/"), ("10.0.0.2", "/export/../etc")])
async def test_what_no_server_exports_is_not_mounted(google: Stock, registry: Registry, where: tuple[str, str]) -> None:
    """A wrong address in deployment.yaml shows before it costs a deploy."""
    async with registry.client() as client:
        image = await push(client, "hello", {"app/main.py": SERVER})
    with pytest.raises(exceptions.GoogleAPICallError, match="is not exported"):
        await google.update(mounted(image, nfs(*where)), allow_missing=True)


def test_an_export_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="SERVER:/PATH=FOLDER"):
        Settings(state=tmp_path, nfs=("10.0.0.2=models",))


async def test_a_program_that_ends_at_once_is_no_service(google: Stock, registry: Registry) -> None:
    async with registry.client() as client:
        image = await push(client, "crash", {"app/main.py": CRASH})
    with pytest.raises(exceptions.GoogleAPICallError, match="failed to start and listen on the port"):
        await google.create(service(image))
    failed = (await google.services.get_service(name=NAME)).latest_created_revision.rsplit("/", 1)[-1]
    log = google.twin.settings.state / "run" / "logs" / f"{failed}.jsonl"
    line = json.loads(log.read_text())
    assert (line["stream"], line["text"]) == ("stderr", "no weights found")


async def test_images_that_are_not_there_or_not_ours(google: Stock, registry: Registry) -> None:
    for image, words in (
        (f"{HOST}/twin-project/cloud-deploy/nothing", "not found"),
        ("docker.io/library/nginx", "not found"),
        (f"{HOST}/other-project/cloud-deploy/hello", "must have permission to read the image"),
    ):
        with pytest.raises(exceptions.GoogleAPICallError, match=words):
            await google.update(service(image, name=NAME), allow_missing=True)


async def test_a_secret_that_is_missing_is_named(google: Stock, registry: Registry) -> None:
    async with registry.client() as client:
        image = await push(client, "hello", {"app/main.py": SERVER})
    selector = run_v2.SecretKeySelector(secret="nothing", version="latest")
    variable = run_v2.EnvVar(name="A", value_source=run_v2.EnvVarSource(secret_key_ref=selector))
    container = run_v2.Container(image=image, env=[variable])
    with pytest.raises(exceptions.GoogleAPICallError, match=r"secrets/nothing/versions/latest was not found"):
        await google.create(service(template={"containers": [container]}))
    shown = (await google.services.get_service(name=NAME)).terminal_condition
    assert shown.reason == run_v2.Condition.CommonReason.SECRETS_ACCESS_CHECK_FAILED


async def test_a_killed_program_is_started_by_the_next_request(google: Stock, registry: Registry) -> None:
    async with registry.client() as client:
        image = await push(client, "hello", {"app/main.py": SERVER})
    made = await google.create(service(image, invoker_iam_disabled=True))
    first = (await google.web.get(made.uri)).json()["pid"]
    os.kill(first, signal.SIGKILL)
    await asyncio.to_thread(psutil.wait_procs, carriers(_identity(google)), 5)
    assert (await google.web.get(made.uri)).json()["pid"] != first


async def test_a_killed_supervisor_leaves_no_second_program(google: Stock, registry: Registry) -> None:
    async with registry.client() as client:
        image = await push(client, "hello", {"app/main.py": SERVER})
    made = await google.create(service(image, invoker_iam_disabled=True))
    first = psutil.Process((await google.web.get(made.uri)).json()["pid"])
    psutil.Process(first.ppid()).kill()
    await asyncio.to_thread(psutil.wait_procs, [first], 5)

    async def another() -> bool:
        answer = await google.web.get(made.uri)
        return answer.status_code == 200 and answer.json()["pid"] != first.pid

    async with asyncio.timeout(10):
        while not await another():
            await asyncio.sleep(0.05)
    assert not first.is_running()
