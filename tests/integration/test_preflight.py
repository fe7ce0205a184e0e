"""What a preflight prints is run as it is, by the stock `gcloud`, until nothing is left to mend."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from tests import needs
from tests.gcp_emulator.emulated import ROOT, Emulator
from tests.parallel import free_port

FILE = """
build:
  engine: cloud-build
  components: {}
deploy:
  type: gcp-cloudrun
  entrypoint: [server.py]
  public: true
  service_account: runner@twin-project.iam.gserviceaccount.com
  secrets: {KEY: api-key}
  data: [{mount: /data, bucket: weights-1}]
"""
DENIED = ("run.*", "logging.logEntries.list", "cloudbuild.builds.*", "iam.serviceAccounts.actAs", "artifactregistry.*")
DISABLED = ("run.googleapis.com", "cloudbuild.googleapis.com", "secretmanager.googleapis.com")


@pytest.fixture
def google(tmp_path: Path) -> Iterator[Emulator]:
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / "api-key").write_text("s3cret")
    emulator = Emulator(tmp_path / "google", "--repository", "unused", "--secrets", str(tmp_path / "secrets"))
    emulator.start()
    yield emulator
    emulator.kill(signal.SIGTERM)


def take_away(google: Emulator) -> None:
    control = google.variables["GCP_EMULATOR_CONTROL"]
    denials = [{"permission": name} for name in DENIED if not name.startswith("artifactregistry")]
    denials.append({"permission": "artifactregistry.repositories.uploadArtifacts"})
    for path, value in (("denials", denials), ("disabled", list(DISABLED))):
        assert requests.put(f"{control}/{path}", json=value, timeout=10).ok


def preflight(google: Emulator, file: Path) -> tuple[int, list[dict[str, Any]]]:
    told = {
        **{name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ},
        **google.variables,
        "CLOUD_BUILD_BUCKET": "sources-1",
        "IMAGE_BUILDER_URL": f"http://127.0.0.1:{free_port()}",
    }
    command = [sys.executable, "-m", "cloud_manager.cli.main", "preflight", str(file), "--json"]
    done = subprocess.run(command, env=told, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)["checks"]


@pytest.mark.slow
@pytest.mark.long
def test_the_commands_mend_what_they_are_printed_for(google: Emulator, tmp_path: Path) -> None:
    """A command that does not work costs a person more than none: he believes it."""
    needs.program("gcloud")
    file = tmp_path / "deployment.yaml"
    file.write_text(FILE)
    take_away(google)
    ran: list[str] = []
    for _ in range(4):  # what an API that is off hides shows once it is on
        _, checks = preflight(google, file)
        commands = dict.fromkeys(command for check in checks for command in check["commands"])
        for command in commands:
            done = google.run("sh", "-c", command)
            assert done.returncode == 0, (command, done.stderr)
        ran += commands
        if not commands:
            break
    status, checks = preflight(google, file)
    left = {check["name"]: check for check in checks if check["outcome"] != "passed"}
    assert left.keys() == {"accelerator", "builder"}, left
    assert left["accelerator"]["cause"] == "no GPU is asked for"
    assert status == 1, "there is no builder here"
    assert len(ran) == len(set(ran)), "a command that is asked for twice mends nothing"
    verbs = {" ".join(command.split()[1:4]) for command in ran}
    assert verbs >= {
        "services enable run.googleapis.com",
        "projects add-iam-policy-binding twin-project",
        "iam service-accounts create",
        "iam service-accounts add-iam-policy-binding",
        "artifacts repositories create",
        "artifacts repositories add-iam-policy-binding",
        "secrets add-iam-policy-binding api-key",
        "storage buckets create",
    }
