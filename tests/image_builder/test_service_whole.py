"""The real builder, from a request to an image that another program reads."""

from __future__ import annotations

import json
import subprocess
import tarfile
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests import needs
from tests.image_builder.service import Service, serving

ASK = {"source": "common/7/42/nn_model", "base_image": "scratch", "workdir": "/workspace"}


@pytest.fixture
def shared(tmp_path: Path) -> Path:
    program = tmp_path / "shared" / ASK["source"]
    program.mkdir(parents=True)
    (program / "main.py").write_text("print('hello')\n")
    return tmp_path / "shared"


def build(service: Service) -> dict[str, str]:
    build_id = service.ask(**ASK)["id"]
    events = service.events(build_id)
    assert events[-1]["message"].startswith("succeeded: sha256:"), events
    return dict(service.show(build_id)["image"])


def test_from_a_request_to_skopeo(tmp_path: Path, shared: Path) -> None:
    """Otherwise the parts work and the whole does not."""
    with serving(tmp_path / "state", shared) as service:
        image = build(service)
        skopeo = needs.program("skopeo")
        source = f"docker://{urlsplit(service.url).netloc}/{image['repository']}@{image['digest']}"
        copy = [skopeo, "--insecure-policy", "copy", "--src-tls-verify=false", source, f"oci:{tmp_path / 'out'}:it"]
        subprocess.run(copy, check=True, capture_output=True, timeout=60)
        inspect = [skopeo, "inspect", "--tls-verify=false", source]
        shown = json.loads(subprocess.run(inspect, check=True, capture_output=True, timeout=60).stdout)
        assert (shown["Digest"], shown["Architecture"]) == (image["digest"], "amd64")
        blobs = tmp_path / "out" / "blobs" / "sha256"
        texts = [text for layer in shown["Layers"] for text in files(blobs / layer.removeprefix("sha256:"), "main.py")]
        assert texts == [b"print('hello')\n"]


def files(layer: Path, name: str) -> list[bytes]:
    with tarfile.open(layer) as tar:
        found = [tar.extractfile(entry) for entry in tar if entry.isfile() and entry.name.endswith("/" + name)]
        return [file.read() for file in found if file]


def test_a_restart_knows_the_image_and_a_changed_file_is_another(tmp_path: Path, shared: Path) -> None:
    """Otherwise a restart builds all again, or a change of the program is not deployed."""
    with serving(tmp_path / "state", shared) as service:
        first = build(service)
        service.kill()
        service.start()
        assert service.ask(**ASK)["image"] == first
        (shared / ASK["source"] / "main.py").write_text("print('other')\n")
        assert build(service)["digest"] != first["digest"]


def test_a_package_that_does_not_exist(tmp_path: Path, shared: Path) -> None:
    """Otherwise a typing error shows as a traceback, or for ever as `building`."""
    with serving(tmp_path / "state", shared) as service:
        asked = [{"text": "no-such-package-of-tango==9", "origin": "deployment.yaml:7:9: build.components.libs[0]"}]
        build_id = service.ask(**ASK, requirements=asked)["id"]
        assert service.events(build_id)[-1]["kind"] == "done"
        problem = service.show(build_id)["problem"]
        assert "no-such-package-of-tango" in problem["cause"]
        assert "\n" not in problem["cause"]


def test_what_cannot_be_built_is_refused_at_once(tmp_path: Path, shared: Path) -> None:
    """Otherwise a mistake in the request takes a place in the queue before it is told."""
    with serving(tmp_path / "state", shared) as service:
        for wrong in ({"source": "../etc"}, {"source": "common/7/none"}, {"system_packages": ["vim"]}):
            answer = service.http.post(
                "/builds", json={"owner": "7/42", "entrypoint": ["python", "main.py"], **ASK, **wrong}
            )
            assert answer.status_code == 422, answer.text
            assert answer.json()["error"]["fix"]
        assert service.http.get("/builds").json() == []
