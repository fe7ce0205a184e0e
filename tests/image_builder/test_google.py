"""Google's registries are used with the credentials that Google's own tools use; no account is needed to see it."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from urllib.parse import parse_qs

import pytest

from image_builder.errors import BuildError
from image_builder.oci.credentials import Credential
from image_builder.oci.google import GoogleCredentials, is_google
from tests import needs


class Logins:
    def __init__(self, **known: Credential) -> None:
        self.known = known

    async def find(self, registry: str) -> Credential | None:
        return self.known.get(registry)


class Tokens(BaseHTTPRequestHandler):
    """A token endpoint: https://developers.google.com/identity/protocols/oauth2/service-account"""

    status = 200
    asked: list[dict[str, list[str]]]

    def do_POST(self) -> None:
        form = parse_qs(self.rfile.read(int(self.headers["content-length"])).decode())
        type(self).asked.append(form)
        refused = {"error": "invalid_grant", "error_description": "account not found"}
        body = json.dumps({"access_token": "ya29.x", "expires_in": 3600} if self.status == 200 else refused).encode()
        self.send_response(self.status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Silent."""


@pytest.fixture
def endpoint() -> Iterator[type[Tokens]]:
    class Own(Tokens):
        asked: list[dict[str, list[str]]] = []  # noqa: RUF012 - one class for each test
        url = ""

    with HTTPServer(("127.0.0.1", 0), Own) as server:
        Own.url = f"http://127.0.0.1:{server.server_port}/token"
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield Own
        server.shutdown()
        thread.join()


@pytest.fixture
def key_file(tmp_path: Path, endpoint: type[Tokens], monkeypatch: pytest.MonkeyPatch) -> Path:
    """A service account's key as Google gives it out, made here."""
    try:
        import google.auth.transport.requests  # noqa: F401
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import rsa
    except ImportError:
        needs.missing("google-auth[requests] is not installed")
    private = rsa.generate_private_key(public_exponent=65537, key_size=2048).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path = tmp_path / "key.json"
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(path))
    path.write_text(
        json.dumps(
            {
                "type": "service_account",
                "project_id": "p",
                "private_key_id": "1",
                "private_key": private.decode(),
                "client_email": "builder@p.iam.gserviceaccount.com",
                "token_uri": endpoint.url,  # type: ignore[attr-defined]
            }
        )
    )
    return path


async def test_a_service_account_opens_googles_registries(key_file: Path, endpoint: type[Tokens]) -> None:
    """Otherwise nobody on Google Cloud can publish without docker login."""
    store = GoogleCredentials(Logins(), os.environ)
    found = await store.find("europe-docker.pkg.dev")
    assert found == Credential("oauth2accesstoken", "ya29.x")
    assert await store.find("gcr.io") == found
    assert len(endpoint.asked) == 1, "a token lives an hour: it is asked for once"


async def test_others_never_see_googles_token(key_file: Path, endpoint: type[Tokens]) -> None:
    store = GoogleCredentials(Logins(), os.environ)
    for registry in ("docker.io", "pkg.dev.evil.example", "evilgcr.io", "127.0.0.1:5000"):
        assert not is_google(registry) and await store.find(registry) is None
    assert endpoint.asked == []


async def test_a_docker_login_comes_first(key_file: Path, endpoint: type[Tokens]) -> None:
    logins = Logins(**{"gcr.io": Credential("me", "pw")})
    store = GoogleCredentials(logins, os.environ)
    assert await store.find("gcr.io") == Credential("me", "pw")
    assert endpoint.asked == []


async def test_a_refused_or_broken_key_is_named(key_file: Path, endpoint: type[Tokens]) -> None:
    endpoint.status = 400
    with pytest.raises(BuildError, match="account not found") as caught:
        await GoogleCredentials(Logins(), os.environ).find("gcr.io")
    assert caught.value.problem.code == "registry_credentials"
    key_file.write_text("no json")
    with pytest.raises(BuildError, match=r"key\.json"):
        await GoogleCredentials(Logins(), os.environ).find("gcr.io")
