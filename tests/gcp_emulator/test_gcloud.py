"""Google's own command line through the proxy: what was deployed and built is there for people, too."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator

import pytest

from tests import needs
from tests.gcp_emulator.emulated import Emulator

MADE = """
import io, tarfile
from google.cloud import run_v2, storage
from google.cloud.devtools import cloudbuild_v1
container = run_v2.Container(image="us-docker.pkg.dev/cloudrun/container/hello")
service = run_v2.Service(template=run_v2.RevisionTemplate(containers=[container]), labels={"team": "vision"})
parent = "projects/twin-project/locations/us-central1"
print(run_v2.ServicesClient().create_service(parent=parent, service=service, service_id="hello").result().uri)
bucket = storage.Client().create_bucket("weights")
archive = io.BytesIO()
tarfile.open(fileobj=archive, mode="w:gz").close()
bucket.blob("source.tar.gz").upload_from_string(archive.getvalue())
source = cloudbuild_v1.Source(storage_source={"bucket": "weights", "object_": "source.tar.gz"})
step = cloudbuild_v1.BuildStep(name="gcr.io/cloud-builders/docker", args=["tag", "a", "b"])
build = cloudbuild_v1.Build(source=source, steps=[step], logs_bucket="gs://weights")
client = cloudbuild_v1.CloudBuildClient()
print(client.create_build(project_id="twin-project", build=build).metadata.build.id)
"""


@pytest.fixture(scope="module")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulator]:
    needs.program("gcloud")
    emulator = Emulator(tmp_path_factory.mktemp("twin"), "--docker", "unix:///none")
    emulator.start()
    yield emulator
    emulator.kill(signal.SIGTERM)


def said(emulator: Emulator, *command: str) -> str:
    done = emulator.run(*command)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.long
def test_what_is_there_is_listed_described_and_deleted(emulator: Emulator) -> None:
    needs.program("gsutil")
    uri, build = emulator.python(MADE).split()
    assert said(emulator, "gsutil", "ls") == "gs://weights/\n"
    assert "gs://weights/source.tar.gz\n" in said(emulator, "gcloud", "storage", "ls", "gs://weights")
    assert build in said(emulator, "gcloud", "builds", "list")
    here = ("--region", "us-central1")
    assert uri in said(emulator, "gcloud", "run", "services", "list", *here)
    described = json.loads(said(emulator, "gcloud", "run", "services", "describe", "hello", *here, "--format", "json"))
    assert described["status"]["url"] == uri and described["metadata"]["labels"]["team"] == "vision"
    said(emulator, "gcloud", "run", "services", "delete", "hello", *here, "--quiet")
    assert json.loads(said(emulator, "gcloud", "run", "services", "list", *here, "--format", "json")) == []


@pytest.mark.long
def test_what_is_not_served_says_so(emulator: Emulator) -> None:
    """Nobody must look for the mistake in his own project."""
    done = emulator.run("gcloud", "run", "services", "list")
    assert done.returncode and "is not served by gcp_emulator" in done.stderr
