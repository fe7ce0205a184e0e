"""The application around the routes: its pages, its description, its end."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import urljoin, urlsplit

import pytest
import requests

from cloud_manager.errors import DeployError
from cloud_manager.server import CannotListen, listen, url_of
from tests.cloud_manager.face import Face, served


@pytest.fixture(scope="module")
def face() -> Iterator[Face]:
    with served() as face:
        yield face


@pytest.mark.parametrize("page", ["/docs", "/redoc"])
def test_the_documentation_needs_no_other_host(face: Face, page: str) -> None:
    """Where there is no internet the page would stay white."""
    answer = requests.get(face.url + page, timeout=10)
    html = answer.text
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert "http" not in answer.headers["content-security-policy"]
    assets = re.findall(r"""(?:src|href)=["']([^"']+)["']""", html)
    assert any(asset.endswith(".js") for asset in assets)
    for asset in [*assets, "/openapi.json"]:
        url = urljoin(face.url + page, asset)
        assert urlsplit(url).netloc == urlsplit(face.url).netloc, f"{page} asks another host for {asset}"
        answer = requests.get(url, timeout=10)
        assert answer.status_code == 200
        assert len(answer.content) > 500
        if asset.endswith(".css"):
            assert not re.search(r"url\(\s*['\"]?https?:|@import", answer.text)
    assert not re.search(r"(?:src|href|url)\s*[=:(]\s*['\"]https?://", html)


def operations(face: Face) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in face.app.openapi()["paths"].items():
        for method, operation in methods.items():
            yield path, method, operation


def test_every_call_is_described_with_its_errors(face: Face) -> None:
    """A person who reads /docs must see what may come back, and in which shape."""
    seen = {path for path, _, _ in operations(face)}
    assert {"/", "/start", "/stop", "/status_request", "/healthz", "/readyz", "/api/v1/deployments"} <= seen
    for path, method, operation in operations(face):
        assert operation["summary"][-1] not in ".", path
        answers = operation["responses"]
        for status, answer in answers.items():
            if status.startswith(("4", "5")) and path.startswith("/api"):
                shape = answer["content"]["application/json"]["schema"]["$ref"]
                assert shape == "#/components/schemas/ErrorAnswer", f"{method} {path} {status}"
        if "{user_id}" in path or path in ("/start", "/stop", "/status_request"):
            assert {"400", "404"} <= set(answers), f"{method} {path} does not tell of its errors"
        if method == "post" and "{user_id}" in path:
            assert {"202", "403", "413"} <= set(answers)


def test_validation_errors_are_not_promised_in_a_shape_that_never_comes(face: Face) -> None:
    for path, method, operation in operations(face):
        schema = str(operation["responses"].get("422", ""))
        assert "HTTPValidationError" not in schema, f"{method} {path}"


def test_answers_have_examples(face: Face) -> None:
    schemas = face.app.openapi()["components"]["schemas"]
    for name in ("DeploymentAnswer", "EventAnswer", "ErrorAnswer"):
        assert schemas[name]["examples"]


def test_the_death_of_the_controller_ends_the_process(caplog: pytest.LogCaptureFixture) -> None:
    """Else the manager would go on telling yesterday's words."""
    with served() as face:
        face.loop.call_soon_threadsafe(face.controller.dies.set)
        face.thread.join(10)
        assert (face.died, face.thread.is_alive()) == (True, False)
    assert "the controller's own mistake" in caplog.text


def test_a_stop_is_no_death(caplog: pytest.LogCaptureFixture) -> None:
    with served() as face:
        pass
    assert not face.died
    assert "controller" not in caplog.text


def test_a_port_in_use_is_said_with_the_way_out() -> None:
    with listen("127.0.0.1", 0) as taken, pytest.raises(CannotListen, match="in use") as refused:
        listen("127.0.0.1", taken.getsockname()[1])
    assert "CLOUD_MANAGER_PORT" in refused.value.problem.fix


@pytest.mark.parametrize("host", ["192.0.2.1", "no-such-host.invalid"])
def test_a_foreign_address_is_refused_in_one_line(host: str) -> None:
    with pytest.raises(DeployError) as refused:
        listen(host, 0)
    assert host in str(refused.value)
    assert str(refused.value).isprintable()


def test_the_url_of_every_family() -> None:
    with listen("127.0.0.1", 0) as listener:
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+", url_of(listener))
