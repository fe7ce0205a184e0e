"""Programs that know of the twin by its environment file alone, and the twin as a process that dies."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests import needs
from tests.gcp_emulator.emulated import REGISTRY, Emulator

GOOGLE_AUTH = """
import os, google.auth, google.auth.transport.requests as transport, httpx, requests
from google.oauth2 import id_token, service_account
scope = "https://www.googleapis.com/auth/cloud-platform"
credentials, project = google.auth.default(scopes=[scope])
credentials.refresh(transport.Request())
assert project == "twin-project", project
told = requests.get("https://oauth2.googleapis.com/tokeninfo", {"access_token": credentials.token}, timeout=9).json()
assert told["email"] == credentials.service_account_email and told["scope"] == scope, told
same = httpx.get("https://oauth2.googleapis.com/tokeninfo", params={"access_token": credentials.token}).json()
assert same["email"] == told["email"], same
url = "https://hello.us-central1.run.app"
key = os.environ["GOOGLE_APPLICATION_CREDENTIALS"]
identity = service_account.IDTokenCredentials.from_service_account_file(key, target_audience=url)
identity.refresh(transport.Request())
assert id_token.verify_oauth2_token(identity.token, transport.Request(), url)["email"] == told["email"]
for host in ("example.com", "bigquery.googleapis.com", "127.0.0.2"):
    try:
        requests.get(f"https://{host}/", timeout=9)
    except requests.exceptions.ProxyError as error:
        assert "502" in str(error), error
    else:
        raise AssertionError(f"{host} was reached")
print(credentials.token)
"""
TOKEN = """
import google.auth, google.auth.transport.requests as transport
credentials, _ = google.auth.default(scopes=["https://www.googleapis.com/auth/cloud-platform"])
credentials.refresh(transport.Request())
print(credentials.token)
"""


@pytest.fixture(scope="module")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulator]:
    emulator = Emulator(tmp_path_factory.mktemp("twin"))
    emulator.start()
    yield emulator
    emulator.kill(signal.SIGTERM)


@pytest.fixture(scope="module")
def token(emulator: Emulator) -> str:
    return emulator.python(GOOGLE_AUTH).strip()


def test_google_auth_gets_tokens_and_no_other_host_is_reached(token: str) -> None:
    assert token.startswith("ya29.")


def test_only_loopback_listens(emulator: Emulator) -> None:
    """Whoever is in the same network must not be served, nor use our proxy."""
    process = psutil.Process(emulator.pid)
    listening = {row.laddr.ip for row in process.net_connections("inet") if row.status == psutil.CONN_LISTEN}
    assert listening and all(ip.removeprefix("::ffff:") == "127.0.0.1" for ip in listening), listening


def test_keys_are_for_nobody_else_to_read(emulator: Emulator) -> None:
    for name in ("ca.key", "service-account.json", "environment"):
        assert (emulator.state / name).stat().st_mode & 0o077 == 0, name


def test_skopeo_pushes_and_pulls_an_image(emulator: Emulator, token: str, tmp_path: Path) -> None:
    skopeo = needs.program("skopeo")
    layer = write_layout(tmp_path / "image")
    credentials, name = f"oauth2accesstoken:{token}", f"docker://{REGISTRY}/twin-project/cloud-deploy/team/model:v1"
    there = emulator.run(skopeo, "copy", "--dest-creds", credentials, f"oci:{tmp_path / 'image'}:a", name)
    assert there.returncode == 0, there.stderr
    back = emulator.run(skopeo, "copy", "--src-creds", credentials, name, f"oci:{tmp_path / 'back'}:a")
    assert back.returncode == 0, back.stderr
    assert hashlib.sha256((tmp_path / "back/blobs/sha256" / layer).read_bytes()).hexdigest() == layer


def test_skopeo_is_refused_as_google_refuses(emulator: Emulator, token: str) -> None:
    skopeo, credentials = needs.program("skopeo"), f"oauth2accesstoken:{token}"
    refused = {
        f"{REGISTRY}/twin-project/missing/a:1": (credentials, "name unknown: Repository"),
        f"{REGISTRY}/other-project/cloud-deploy/a:1": (credentials, "downloadArtifacts"),
        f"{REGISTRY}/twin-project/cloud-deploy/a:1": ("oauth2accesstoken:x", "authentication failed"),
    }
    for image, (who, words) in refused.items():
        done = emulator.run(skopeo, "inspect", "--creds", who, f"docker://{image}")
        assert done.returncode and words in done.stderr, done.stderr


def test_a_killed_twin_comes_back_as_it_was(tmp_path: Path) -> None:
    """Clients that run have its ports, its authority and their tokens already."""
    skopeo, image = needs.program("skopeo"), f"{REGISTRY}/twin-project/cloud-deploy/kept"
    emulator = Emulator(tmp_path / "state")
    emulator.start()
    files = ("environment", "ca.pem", "service-account.json")
    before = [(emulator.state / name).read_bytes() for name in files]
    token = emulator.python(TOKEN).strip()
    write_layout(tmp_path / "image")
    who = f"oauth2accesstoken:{token}"
    assert not emulator.run(
        skopeo, "copy", "--dest-creds", who, f"oci:{tmp_path / 'image'}:a", f"docker://{image}"
    ).returncode
    emulator.kill(signal.SIGKILL)
    emulator.start()
    assert not emulator.run(skopeo, "inspect", "--creds", who, f"docker://{image}").returncode
    assert [(emulator.state / name).read_bytes() for name in files] == before
    script = "import requests; print(requests.get('https://oauth2.googleapis.com/tokeninfo?access_token=TOKEN').json())"
    assert "cloud-deploy@twin-project" in emulator.python(script.replace("TOKEN", token))
    emulator.kill(signal.SIGTERM)


HELLO = """
import google.auth.transport.requests as transport, os, requests
from google.cloud import run_v2
from google.oauth2 import service_account
client = run_v2.ServicesClient()
container = run_v2.Container(image="us-docker.pkg.dev/cloudrun/container/hello")
service = run_v2.Service(template=run_v2.RevisionTemplate(containers=[container]))
parent = "projects/twin-project/locations/us-central1"
made = client.create_service(parent=parent, service=service, service_id="hello").result(timeout=60)
assert requests.get(made.uri, timeout=20).status_code == 403
key = os.environ["GOOGLE_APPLICATION_CREDENTIALS"]
who = service_account.IDTokenCredentials.from_service_account_file(key, target_audience=made.uri)
print(transport.AuthorizedSession(who).get(made.uri, timeout=20).text)
client.delete_service(name=made.name).result(timeout=60)
"""


def test_googles_hello_runs_and_answers_whom_it_knows(emulator: Emulator) -> None:
    """The first thing that anybody deploys: nothing to build, nothing to push."""
    page = emulator.python(HELLO)
    assert "It's running!" in page and "service hello, revision hello-00001-" in page


def test_googles_hello_is_for_everybody_to_read_and_nobody_to_write(emulator: Emulator, tmp_path: Path) -> None:
    skopeo, hello = needs.program("skopeo"), "docker://us-docker.pkg.dev/cloudrun/container/hello"
    assert emulator.run(skopeo, "inspect", hello).returncode == 0
    write_layout(tmp_path / "image")
    assert emulator.run(skopeo, "copy", f"oci:{tmp_path / 'image'}:a", hello).returncode


def test_faults_and_calls_over_the_control_api(emulator: Emulator, token: str) -> None:
    """The whole way: a rule set by HTTP hits a stock client, once, and both its calls are counted."""
    script = f"""
import os, requests
control = os.environ["GCP_EMULATOR_CONTROL"]
assert requests.put(control + "/faults", json=[{{"call": "GET *"}}]).status_code == 422
rule = {{"call": "GET */v2/", "code": "RESOURCE_EXHAUSTED"}}
assert requests.put(control + "/faults", json=[rule]).json()[0]["nth"] == 1
ask = lambda: requests.get("https://{REGISTRY}/v2/", headers={{"Authorization": "Bearer {token}"}})
first, second = ask(), ask()
assert first.status_code == 429 and "Quota exceeded" in first.json()["errors"][0]["message"], first.text
assert second.status_code == 200, second.text
assert requests.get(control + "/calls").json()["GET {REGISTRY}/v2/"] >= 2
assert requests.delete(control + "/faults").status_code == 204 and requests.get(control + "/faults").json() == []
"""
    emulator.python(script)


@pytest.mark.long
def test_gcloud_logs_in_by_the_environment_file(emulator: Emulator, token: str) -> None:
    gcloud = shutil.which("gcloud") or needs.program("gcloud")
    done = emulator.run(gcloud, "auth", "print-access-token")
    assert done.returncode == 0 and done.stdout.startswith("ya29."), done.stderr
    assert emulator.run(gcloud, "config", "get", "project").stdout.strip() == "twin-project"


def write_layout(folder: Path) -> str:
    """An image of one layer of 3 MiB, tagged `a`: https://github.com/opencontainers/image-spec. The layer's hash."""
    blobs = folder / "blobs" / "sha256"
    blobs.mkdir(parents=True)

    def add(data: bytes, media_type: str) -> dict[str, object]:
        digest = hashlib.sha256(data).hexdigest()
        (blobs / digest).write_bytes(data)
        return {"mediaType": f"application/vnd.oci.image.{media_type}", "digest": f"sha256:{digest}", "size": len(data)}

    tar = os.urandom(3 << 20)
    layer = add(gzip.compress(tar, 1), "layer.v1.tar+gzip")
    root = {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(tar).hexdigest()}"]}
    config = add(json.dumps({"architecture": "amd64", "os": "linux", "rootfs": root}).encode(), "config.v1+json")
    manifest = add(json.dumps({"schemaVersion": 2, "config": config, "layers": [layer]}).encode(), "manifest.v1+json")
    named = {**manifest, "annotations": {"org.opencontainers.image.ref.name": "a"}}
    (folder / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    (folder / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [named]}))
    return str(layer["digest"]).removeprefix("sha256:")
