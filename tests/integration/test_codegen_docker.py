"""The code generator's own `type: docker` files, without an edit, on a real Engine."""

from __future__ import annotations

import asyncio
import os
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from cloud_manager.targets.docker_reference import OwnNames
from tests.conformance.docker_harness import Docker
from tests.integration.compose import network_settings
from tests.integration.stack import Stack, running

pytestmark = [pytest.mark.long, pytest.mark.slow, pytest.mark.timeout(600)]

SPECIMENS = Path(__file__).parents[1] / "cloud_manager" / "specimens"
PROGRAM = """
import os
from http.server import BaseHTTPRequestHandler, HTTPServer

class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"vim is there" if os.path.exists("/usr/bin/vim") else b"no vim")

HTTPServer(("", int(os.environ["PORT"])), Handler).serve_forever()
"""
OFFICIAL = "python:3.9-slim"
_NAMED = 'FROM {base}\nRUN ln -s "$(command -v python3)" /usr/local/bin/python3.9\n'


@pytest.fixture
def official(docker_engine: str, base_image: str) -> Iterator[None]:
    """The base that the files mean is in the Engine alone. Debian has one python, here called 3.9 besides."""
    docker = Docker(docker_engine)
    there = docker("images", "-q", OFFICIAL)
    if not there:
        docker.build(OFFICIAL, _NAMED.format(base=base_image))
    yield
    if not there:
        docker("rmi", OFFICIAL)


@pytest.fixture
def wheels(tmp_path: Path) -> Path:
    """Something called torch: the file's engine asks for it, and the real one is none of this test's business."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    name, about = "torch-99.0+cpu", "torch-99.0+cpu.dist-info"
    with zipfile.ZipFile(folder / f"{name}-py3-none-any.whl", "w") as wheel:
        wheel.writestr("torch.py", "")
        wheel.writestr(f"{about}/METADATA", "Metadata-Version: 2.1\nName: torch\nVersion: 99.0+cpu\n")
        wheel.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{about}/RECORD", "")
    return folder


@pytest.fixture
def stack(docker_engine: str, official: None, wheels: Path, tmp_path: Path) -> Iterator[Stack]:
    network = {key: value for key, value in asyncio.run(network_settings(os.environ)).items() if key.startswith("PIP")}
    more = {"DOCKER_HOST": docker_engine, "DOCKER_OWNER": "codegen", "BUILD_NETWORK": "host"}
    with running(tmp_path, PIP_FIND_LINKS=str(wheels), **network, **more) as made:
        yield made
    docker = Docker(docker_engine)  # what was loaded stays for an hour; a test leaves nothing
    rows = docker("images", "--format", "{{.Repository}}:{{.Tag}}").split()
    if ours := [name for name in rows if name.startswith(OwnNames("codegen").home)]:
        docker("rmi", *ours)


def test_a_file_of_the_code_generator_runs(stack: Stack) -> None:
    """Its base from the Engine, its vim by apt, its aliases translated: TANGO's users write none of this themselves."""
    project = stack.project(yaml=(SPECIMENS / "codegen_shared_list.yaml").read_text())
    for name, text in {"output.py": PROGRAM, "yolov7.mod": "", "yolov7.param": ""}.items():
        (project / "nn_model" / name).write_text(text)
    stack.begin()
    stack.wait("running", timeout=400)
    assert requests.get(stack.show()["url"], timeout=10).text == "vim is there"
    assert "the official python:3.9-slim serves" in stack.story()
    stack.get("/stop")
    stack.wait("stopped")


def test_what_cannot_run_is_refused_for_that_very_reason(stack: Stack) -> None:
    """flask 1.2.3, which the code generator's example asks for, was never published."""
    project = stack.project(yaml=(SPECIMENS / "codegen_cloud.yaml").read_text())
    (project / "nn_model" / "run.sh").write_text("")
    stack.begin()
    stack.wait("failed", timeout=300)
    assert stack.show()["problem"]["code"] == "version_not_found"
    assert "flask==1.2.3" in stack.show()["problem"]["cause"]
