"""Who may call: with an API_TOKEN, those who have it, and TANGO."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from pydantic import SecretStr

from cloud_manager.access import OpenToAll, check_reach
from cloud_manager.api_token import BadToken, token_of
from cloud_manager.deployment import Phase
from tests.cloud_manager.face import Face, served

TOKEN = "correct-horse-battery-staple"
QUERY = "?user_id=7&project_id=42"


@pytest.fixture(scope="module")
def guarded() -> Iterator[Face]:
    with served(token=TOKEN) as face:
        face.know(Phase.RUNNING)
        yield face


@pytest.fixture(scope="module")
def locked() -> Iterator[Face]:
    with served(token=TOKEN, tango_needs_token=True) as face:
        face.know(Phase.RUNNING)
        yield face


def ask(face: Face, path: str, authorization: str = "", method: str = "GET") -> requests.Response:
    headers = {"Authorization": authorization} if authorization else {}
    return requests.request(method, face.url + path, headers=headers, timeout=10)


def basic(text: str) -> str:
    return "Basic " + base64.b64encode(text.encode()).decode()


@pytest.mark.parametrize("path", ["/", f"/start{QUERY}", f"/status_request{QUERY}", f"/stop{QUERY}", "/healthz"])
def test_tango_needs_no_token(guarded: Face, path: str) -> None:
    """The project manager cannot send one: with a token set, TANGO would stand still."""
    guarded.know(Phase.RUNNING)
    assert ask(guarded, path).status_code == 200


@pytest.mark.parametrize(
    "path",
    ["/api/v1/deployments", "/api/v1/schema", "/metrics", "/readyz", "/docs", "/redoc", "/openapi.json", "/nothing"],
)
def test_all_else_needs_it(guarded: Face, path: str) -> None:
    """Else whoever reaches the port reads logs and files of every project."""
    refused = ask(guarded, path)
    assert refused.status_code == 401
    assert refused.raw.headers.getlist("www-authenticate") == [
        f'{scheme} realm="Cloud Deploy"' for scheme in ("Bearer", "Basic")
    ]
    error = refused.json()["error"]
    assert (error["code"], error["retryable"]) == ("unauthorized", False)
    assert "API_TOKEN" in error["fix"]
    assert ask(guarded, path, f"Bearer {TOKEN}").status_code == (404 if path == "/nothing" else 200)


def test_acting_needs_it(guarded: Face) -> None:
    before = len(guarded.deployments.calls)
    assert ask(guarded, "/api/v1/deployments/7/42/stop", method="POST").status_code == 401
    assert len(guarded.deployments.calls) == before
    assert ask(guarded, "/api/v1/deployments/7/42/stop", f"bearer {TOKEN}", method="POST").status_code == 202


@pytest.mark.parametrize(
    "authorization",
    [f"Bearer {TOKEN}x", f"Bearer {TOKEN[:-1]}", "Bearer", f"Token {TOKEN}", TOKEN, "Basic", "Basic %%%", "Bearer é"],
)
def test_what_is_nearly_the_token_is_not(guarded: Face, authorization: str) -> None:
    assert ask(guarded, "/metrics", authorization).status_code == 401


def test_a_browser_may_send_it_as_a_password(guarded: Face) -> None:
    """A browser asks for name and password, and knows no other way to open /docs."""
    assert ask(guarded, "/docs", basic(f"anybody:{TOKEN}")).status_code == 200
    assert ask(guarded, "/docs", basic("anybody:else")).status_code == 401


def test_tango_may_be_asked_for_it_too(locked: Face) -> None:
    """Where something in front of TANGO's project manager adds the token."""
    for path in ("/", f"/start{QUERY}", f"/stop{QUERY}", f"/status_request{QUERY}"):
        refused = ask(locked, path)
        assert refused.status_code == 401
        assert refused.text.startswith("error: "), "the project manager reads text"
        assert len(refused.text) > 50, "and takes what is short for a status"
    assert ask(locked, f"/status_request{QUERY}", f"Bearer {TOKEN}").text == "running"
    assert ask(locked, "/healthz").status_code == 200


def test_a_token_comes_from_a_file(tmp_path: Path) -> None:
    """A secret that is mounted stays out of `docker inspect`."""
    file = tmp_path / "token"
    file.write_text(f"{TOKEN}\n")
    assert token_of(None, file) == TOKEN
    assert token_of(SecretStr(TOKEN), None) == TOKEN
    assert not token_of(SecretStr(""), None)


@pytest.mark.parametrize("text", ["short", "with a space in it that is long", "", "ümlaut-ümlaut-ümlaut"])
def test_a_token_that_cannot_be_sent_is_refused_and_not_told(tmp_path: Path, text: str) -> None:
    """An empty file must not mean that everybody is let in."""
    file = tmp_path / "token"
    file.write_text(text)
    with pytest.raises(BadToken) as refused:
        token_of(None, file)
    assert not text or text not in str(refused.value)


def test_two_tokens_or_none_where_one_is_named_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BadToken, match="both"):
        token_of(SecretStr(TOKEN), tmp_path)
    with pytest.raises(BadToken, match="cannot be read"):
        token_of(None, tmp_path / "missing")


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2", "::1", "localhost"])
def test_loopback_needs_no_token(host: str) -> None:
    assert not check_reach("HOST", host, "", allowed=False)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.7", "example.org"])
def test_beyond_loopback_somebody_must_have_said_so(host: str) -> None:
    """Else a setting that was meant for a container opens every project to the network."""
    with pytest.raises(OpenToAll, match="ALLOW_NO_TOKEN"):
        check_reach("CLOUD_MANAGER_HOST", host, "", allowed=False)
    assert check_reach("CLOUD_MANAGER_HOST", host, "", allowed=True), "it is to be told"
    assert not check_reach("CLOUD_MANAGER_HOST", host, TOKEN, allowed=False)
