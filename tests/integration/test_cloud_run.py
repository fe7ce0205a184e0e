"""A project of TANGO's on Google Cloud Run, the whole way: built, published, deployed, updated, stopped.

Builder and manager know of the twin of Google by their environment alone, as they would of a company's proxy.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.gcp_emulator.emulated import Emulator
from tests.integration.stack import YAML, Stack, running, until

PROJECT = YAML.replace("type: local", "type: gcp-cloudrun\n  public: true")
SERVICES = """
from google.cloud import run_v2
client = run_v2.ServicesClient()
for service in client.list_services(parent="projects/twin-project/locations/us-central1"):
    print(service.name, service.generation)
"""


@pytest.fixture
def google(tmp_path: Path) -> Iterator[Emulator]:
    emulator = Emulator(tmp_path / "google")
    emulator.start()
    yield emulator
    emulator.kill(signal.SIGTERM)


@pytest.fixture
def stack(google: Emulator, tmp_path: Path) -> Iterator[Stack]:
    with running(tmp_path, **google.variables) as stack:
        yield stack


def ask(google: Emulator, url: str) -> dict[str, Any]:
    proxies = {"https": google.variables["https_proxy"]}
    bundle = google.variables["REQUESTS_CA_BUNDLE"]
    answer: dict[str, Any] = requests.get(url, proxies=proxies, verify=bundle, timeout=20).json()
    return answer


def control(google: Emulator, path: str, rules: list[dict[str, Any]] | None = None) -> Any:
    url = google.variables["GCP_EMULATOR_CONTROL"] + path
    return (requests.get(url, timeout=10) if rules is None else requests.put(url, json=rules, timeout=10)).json()


@pytest.mark.slow
def test_from_a_file_to_an_address_to_nothing(google: Emulator, stack: Stack) -> None:
    """What the target exists for."""
    stack.project(text="hello", yaml=PROJECT)
    stack.begin()
    stack.wait("running")
    url = stack.show()["url"]
    assert url.endswith(".us-central1.run.app")
    assert ask(google, url)["text"] == "hello"
    stack.get("/stop")
    stack.wait("stopped")
    assert google.python(SERVICES) == ""


@pytest.mark.slow
@pytest.mark.long
def test_a_manager_that_dies_while_google_works_makes_no_second_service(google: Emulator, stack: Stack) -> None:
    """Nor does an update; and the log is to be read all the while."""
    stack.project(text="hello", yaml=PROJECT)
    control(google, "/faults", [{"call": "revision", "seconds": 2}])
    stack.begin()
    until("Google to be asked", lambda: control(google, "/calls").get("google.cloud.run.v2.Services.CreateService"))
    stack.kill("manager")
    stack.start("manager")
    stack.wait_healthy("manager")
    stack.wait("running")
    url = stack.show()["url"]
    assert google.python(SERVICES).split()[1:] == ["1"]
    stack.project(text="hello again", yaml=PROJECT)
    stack.begin()
    until("the update", lambda: ask(google, url)["text"] == "hello again")
    stack.wait("running")
    logs = f"http://127.0.0.1:{stack.port('manager')}/api/v1/deployments/7/42/logs?tail=50"
    assert "listening on" in requests.get(logs, timeout=30).text
    stack.get("/stop")
    stack.wait("stopped")
    assert google.python(SERVICES) == ""
