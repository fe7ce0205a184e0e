"""deployment.yaml over HTTP: what an editor or a form of one's own relies on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from tests.cloud_manager.face import Face, served
from tests.fakes.target import FakeTarget

ONE = "/api/v1/deployments/7/42"
GOOD = b"deploy:\n  type: fake\n  entrypoint: [server.py]\n  region: mars\n"


@pytest.fixture
def face(tmp_path: Path) -> Iterator[Face]:
    (tmp_path / "common/7/42").mkdir(parents=True)
    (tmp_path / "common/7/42/server.py").write_text("")
    with served(shared_root=tmp_path) as face:
        face.targets.target = FakeTarget()  # type: ignore[assignment]
        yield face


def test_a_text_is_written_read_and_judged(face: Face, tmp_path: Path) -> None:
    judged = requests.post(f"{face.url}/api/v1/validate", data=GOOD, params={"user_id": "7", "project_id": "42"})
    body = judged.json()
    assert (judged.status_code, body["valid"], body["target"]) == (200, True, "fake")
    assert body["ignored"] == [{"line": 4, "column": 11, "path": "deploy.region", "message": "means nothing to fake"}]
    assert not (tmp_path / "common/7/42/deployment.yaml").exists()
    assert requests.put(face.url + ONE + "/yaml", data=GOOD).json() == body
    assert requests.get(face.url + ONE + "/yaml").json() == {"text": GOOD.decode(), "verdict": body}


def test_what_is_wrong_is_told_by_place_and_not_written(face: Face) -> None:
    wrong = GOOD.replace(b"server.py", b"sever.py")
    told = requests.post(f"{face.url}/api/v1/validate", data=b"deploy:\n  typ: x\n").json()
    assert not told["valid"] and {finding["line"] for finding in told["findings"]} == {2}
    refused = requests.put(face.url + ONE + "/yaml", data=wrong)
    assert refused.status_code == 422 and "server.py" in refused.json()["error"]["cause"]
    assert requests.get(face.url + ONE + "/yaml").status_code == 404


@pytest.mark.parametrize(
    ("path", "headers", "size", "status"),
    [
        ("/api/v1/validate", {}, (1 << 20) + 1, 413),
        (ONE + "/yaml", {"Sec-Fetch-Site": "cross-site"}, 10, 403),
        ("/api/v1/validate?user_id=7", {}, 10, 400),
        ("/api/v1/validate?user_id=..&project_id=1", {}, 10, 400),
        ("/api/v1/deployments/.x/1/yaml", {}, 10, 400),
    ],
)
def test_what_nobody_means_is_refused(face: Face, path: str, headers: dict[str, str], size: int, status: int) -> None:
    """A page of another origin must not write files; a body must not fill the memory."""
    method = "put" if path.endswith("yaml") else "post"
    answer = requests.request(method, face.url + path, data=b" " * size, headers=headers, timeout=20)
    assert answer.status_code == status and answer.json()["error"]["fix"]
