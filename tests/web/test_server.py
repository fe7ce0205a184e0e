"""The GUI beside the API: an address that is taken costs the GUI alone; what strangers send is refused."""

from __future__ import annotations

import socket
from pathlib import Path

import httpx
import pytest

from tests.image_builder.service import Service
from tests.integration.stack import Stack, until


def test_a_port_that_is_taken_costs_the_gui_alone(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        (tmp_path / "shared").mkdir()
        service = Service(tmp_path / "state", tmp_path / "shared", WEB_PORT=str(port))
        try:
            until("the log to tell", lambda: "there is no GUI" in service.log)
            assert f"127.0.0.1:{port}" in service.log and "WEB_PORT" in service.log
            assert service.http.get("/healthz").status_code == 200
        finally:
            service.kill()


@pytest.mark.parametrize(
    ("method", "path", "headers", "status"),
    [
        ("GET", "/", {"Host": "evil.example.org"}, 403),
        ("POST", "/deployments/7/42/stop", {"Sec-Fetch-Site": "cross-site"}, 403),
        ("POST", "/deployments/7/42/stop", {"Origin": "http://evil.example.org"}, 403),
        ("GET", "/deployments/7/42/stop", {}, 405),
        ("GET", "/deployments/..%2f..%2fetc/passwd", {}, 404),
        ("GET", "/static/0/..%2f..%2fapp.py", {}, 404),
        ("GET", "/docs/errors/NO", {}, 404),
        ("POST", "/preferences", {"Content-Type": "text/plain"}, 303),
        ("GET", "/healthz", {}, 200),
    ],
)
def test_every_answer_is_guarded(stack: Stack, method: str, path: str, headers: dict[str, str], status: int) -> None:
    answer = httpx.request(method, f"http://127.0.0.1:{stack.web_port}{path}", headers=headers, trust_env=False)
    assert answer.status_code == status
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy and "unsafe" not in policy


def test_what_does_not_change_is_kept_and_what_does_is_not(stack: Stack) -> None:
    base = f"http://127.0.0.1:{stack.web_port}"
    page = httpx.get(base, trust_env=False)
    assert page.headers["cache-control"] == "no-store"
    sheet = next(part for part in page.text.split('"') if part.endswith("app.css"))
    assert "immutable" in httpx.get(base + sheet, trust_env=False).headers["cache-control"]
    version = sheet.split("/")[2]
    old = httpx.get(base + sheet.replace(version, "0" * 12), trust_env=False)
    assert (old.status_code, old.headers["cache-control"]) == (200, "no-cache")
