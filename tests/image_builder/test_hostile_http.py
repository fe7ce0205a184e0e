"""Bodies made to harm, sent to the real builder: it answers with a cause and a fix, soon, and lives on."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from tests.image_builder.service import Service, serving
from tests.image_builder.wheels import make_project

BODY = {"owner": "7/42", "source": "common/7/42/nn_model", "entrypoint": ["app.py"], "base_image": "scratch"}


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    folder = tmp_path_factory.mktemp("hostile")
    make_project(folder / "shared")
    with serving(folder / "state", folder / "shared") as service:
        yield service


def refused(service: Service, content: Any, *, status: int) -> str:
    began, log = time.monotonic(), len(service.log)
    try:
        answer = service.http.post("/builds", content=content, headers={"Content-Type": "application/json"})
    except (httpx.WriteError, httpx.ReadError):
        assert status == 413  # it hangs up on who goes on sending
    else:
        assert answer.status_code == status, answer.text[:300]
        problem = answer.json()["error"]
        assert problem["cause"].isprintable() and problem["fix"] and len(problem["cause"]) < 5000
    assert time.monotonic() - began < 15
    assert service.http.get("/builds").status_code == 200
    assert "Traceback" not in service.log[log:], service.log[log:][-3000:]
    return service.log


@pytest.mark.parametrize("declared", [True, False])
def test_a_body_of_100_mb_is_not_taken_in(service: Service, declared: bool) -> None:
    def pieces() -> Iterator[bytes]:
        yield b'{"owner": "'
        for _ in range(100):
            yield b"x" * (1 << 20)

    before = psutil.Process(service.process.pid).memory_info().rss
    refused(service, b"x" * (100 << 20) if declared else pieces(), status=413)
    assert psutil.Process(service.process.pid).memory_info().rss - before < 30 << 20


@pytest.mark.parametrize(
    ("content", "status"),
    [
        (b"[" * 500_000, 400),
        (b'{"a":' * 100_000, 400),
        (b'{"port": ' + b"9" * 5000 + b"}", 400),
        (b'{"port": NaN}', 422),
        (b"\xff\xfe", 422),
        (b"", 422),
        (b"null", 422),
        (json.dumps(BODY | {"owner": "\ud800"}).encode(), 422),
        (json.dumps(BODY | {"source": "a\udcffb"}).encode(), 422),
        (json.dumps(BODY | {"source": "common/\x1b[2J\n"}).encode(), 422),
        (json.dumps(BODY | {"entrypoint": ["\ud800"]}).encode(), 422),
        (json.dumps(BODY | {"a\ud800\n": 1}).encode(), 422),
        (json.dumps(BODY | {"requirements": [{"text": "\udcff"}]}).encode(), 422),
        (json.dumps(BODY | {"requirements": [{"text": f"p{n}"} for n in range(100_000)]}).encode(), 413),
        (json.dumps(BODY | {"requirements": [{"text": f"p{n}"} for n in range(20_000)]}).encode(), 422),
        (json.dumps(BODY | {"system_packages": ["a" * 900_000], "base_image": "x"}).encode(), 422),
        (json.dumps(BODY | {"base_image": "a/" * 400_000}).encode(), 422),
        (json.dumps(BODY | {"workdir": "a/" * 400_000}).encode(), 422),
        (json.dumps(BODY | {"weights": ["a/" * 400_000]}).encode(), 422),
        (json.dumps(BODY | {"lock": "../" * 300_000}).encode(), 422),
        (json.dumps(BODY | {"source": "a/" * 400_000}).encode(), 422),
    ],
)
def test_a_body_that_means_no_build(service: Service, content: bytes, status: int) -> None:
    refused(service, content, status=status)


def test_no_password_of_an_address_is_kept_or_told(service: Service, tmp_path: Path) -> None:
    body = BODY | {"requirements": [{"text": "x @ https://me:hunter2@h.example/x-1-py3-none-any.whl"}]}
    assert "hunter2" not in refused(service, json.dumps(body).encode(), status=422)
    kept = [path for path in service.state_dir.rglob("*") if path.is_file() and b"hunter2" in path.read_bytes()]
    assert not kept and "hunter2" not in service.http.get("/builds").text
