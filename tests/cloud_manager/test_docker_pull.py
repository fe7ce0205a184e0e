"""Around a pull, without an engine: names of images, refusals, logins, and what an archive leaves out."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from cloud_manager.deployment import Key
from cloud_manager.errors import InvalidSpec
from cloud_manager.targets.docker_credentials import BadCredentials, DockerLogin
from cloud_manager.targets.docker_load import BadImage, known_layers, major, read_image, read_manifest
from cloud_manager.targets.docker_pull import Downloads, error_in, pull_refused
from cloud_manager.targets.docker_reference import OwnNames, parse

DIGEST = f"sha256:{'a' * 64}"

# -- names -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "name", "version", "registry"),
    [
        ("python", "python", "latest", "docker.io"),
        ("team/model:1.2", "team/model", "1.2", "docker.io"),
        ("localhost/x", "localhost/x", "latest", "localhost"),
        ("127.0.0.1:5000/x", "127.0.0.1:5000/x", "latest", "127.0.0.1:5000"),
        ("reg.example.com:443/a/b:v1", "reg.example.com:443/a/b", "v1", "reg.example.com:443"),
        (f"reg.example.com/a:v1@{DIGEST}", "reg.example.com/a", DIGEST, "reg.example.com"),
    ],
)
def test_a_reference_is_read_as_docker_reads_it(text: str, name: str, version: str, registry: str) -> None:
    """Otherwise another image runs, or a password goes to another registry."""
    found = parse(text)
    assert (found.name, found.version, found.registry) == (name, version, registry)


@pytest.mark.parametrize(
    "text",
    [
        *("", "Upper/case", "a b", "../containers/x", "x/../../info", "http://x/y", "x:", "x@sha256:12", "x?y", "-x"),
        *(DIGEST, "cloud-deploy.internal/cloud-deploy-images/builds/4f2a:1", "cloud-deploy.internal"),
    ],
)
def test_what_is_no_image_of_ones_own_is_refused(text: str) -> None:
    """An id, or a name of ours, would run what another project has built; a path would ask the engine for more."""
    with pytest.raises(InvalidSpec) as caught:
        parse(text)
    assert caught.value.problem.code == "bad_image_reference"


def test_names_of_ours_are_names_to_docker() -> None:
    """Whatever the project, and whatever the installation, are called."""
    for owner in ("a", "a-", "a--b", "cloud-deploy"):
        names = OwnNames(owner)
        for key in (Key("7", "42"), Key("_", "-"), Key("A" * 64, "x" * 64)):
            pin = names.pin(key, 3, "0123456789abcdef")
            assert parse(str(pin).replace("cloud-deploy.internal", "x.internal")).version == pin.version


# -- refusals ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "code", "retryable"),
    [
        ("manifest for x:1 not found: manifest unknown: manifest unknown", "image_not_found", False),
        ("pull access denied for x, repository does not exist or may require 'docker login'", "registry_auth", False),
        ('Get "http://r/v2/x/manifests/1": no basic auth credentials', "registry_auth", False),
        ("unauthorized: authentication required", "registry_auth", False),
        ('Get "https://r/v2/": http: server gave HTTP response to HTTPS client', "registry_untrusted", False),
        ('Get "https://r/v2/": tls: first record does not look like a TLS handshake', "registry_untrusted", False),
        ('Get "https://r/v2/": x509: certificate signed by unknown authority', "registry_untrusted", False),
        ('Get "https://r/v2/": dial tcp: lookup r on 10.0.0.1:53: no such host', "registry_unreachable", True),
        ('Get "http://r/v2/": dial tcp 127.0.0.1:9: connect: connection refused', "registry_unreachable", True),
        ("net/http: request canceled while waiting (Client.Timeout exceeded)", "registry_unreachable", True),
        ("proxyconnect tcp: dial tcp: lookup proxy: no such host", "registry_proxy", True),
        ('Get "https://r/v2/": Proxy Authentication Required', "registry_proxy", True),
        ("toomanyrequests: You have reached your pull rate limit", "registry_busy", True),
        ("write /var/lib/docker/tmp/x: no space left on device", "engine_disk_full", True),
        ("no matching manifest for linux/arm64/v8 in the manifest list entries", "image_wrong_platform", False),
        ("something new", "image_pull_failed", False),
    ],
)
def test_a_refusal_says_what_to_do(words: str, code: str, retryable: bool) -> None:
    """In the engine's own words, and with where to turn: not an error 500."""
    problem = pull_refused(words, parse("r.example.com/team/x:1")).problem
    assert (problem.code, problem.retryable) == (code, retryable)
    assert "r.example.com/team/x:1" in problem.cause and words[:20] in problem.cause
    assert "\n" not in problem.cause and "{" not in problem.fix


def test_a_signed_address_is_not_told() -> None:
    """Registries send engines to stores by addresses that whoever has them may use."""
    problem = pull_refused('Get "https://cdn/x?Signature=canary&Key=1": EOF', parse("x")).problem
    assert "canary" not in problem.cause


def test_lines_of_a_pull_are_counted() -> None:
    seen = Downloads()
    for done in (10, 50):
        seen.add({"id": "a", "status": "Downloading", "progressDetail": {"current": done, "total": 100}})
    seen.add({"id": "b", "status": "Downloading", "progressDetail": {"current": 1, "total": 20}})
    assert (seen.done, seen.total) == (51, 120)
    for line in ({"id": "b", "status": "Download complete", "progressDetail": {}}, {"status": "Digest: sha256:1"}):
        seen.add(line)
    assert (seen.done, seen.total) == (70, 120)
    assert error_in({"errorDetail": {"message": "m"}, "error": "e"}) == "m" and error_in({"error": "e"}) == "e"
    assert error_in({"status": "Downloading"}) is None


# -- logins ------------------------------------------------------------------------------------------------------------


def _login(folder: Path, config: Any) -> DockerLogin:
    (folder / "config.json").write_text(config if isinstance(config, str) else json.dumps(config))
    return DockerLogin(folder)


def _decoded(header: str | None) -> dict[str, str]:
    assert header is not None
    return dict(json.loads(base64.urlsafe_b64decode(header)))


async def test_nobody_has_logged_in(tmp_path: Path) -> None:
    assert await DockerLogin(tmp_path / "nothing").header("r") is None
    assert await _login(tmp_path, {"auths": {"other": {"auth": "YTpi"}}}).header("r") is None


async def test_docker_hubs_login_is_found_by_its_old_name(tmp_path: Path) -> None:
    """docker keeps it under an address of version 1."""
    auths = {"https://index.docker.io/v1/": {"auth": base64.b64encode(b"ali:p:w").decode()}}
    found = _decoded(await _login(tmp_path, {"auths": auths}).header("docker.io"))
    assert found == {"username": "ali", "password": "p:w", "serveraddress": "https://index.docker.io/v1/"}


async def test_a_refresh_token_is_sent_as_one(tmp_path: Path) -> None:
    found = _decoded(await _login(tmp_path, {"auths": {"r": {"identitytoken": "t"}}}).header("r"))
    assert found == {"identitytoken": "t", "serveraddress": "r"}


def _helper(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    path = folder / "docker-credential-cave"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder), prepend=":")


async def test_the_store_is_asked_where_the_file_has_no_password(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Docker Desktop leaves an empty entry in the file."""
    _helper(tmp_path, monkeypatch, """echo '{"Username": "<token>", "Secret": "s"}'""")
    found = _decoded(await _login(tmp_path, {"auths": {"r": {}}, "credsStore": "cave"}).header("r"))
    assert found == {"identitytoken": "s", "serveraddress": "r"}


async def test_a_store_that_knows_nobody_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Public images are pulled without a login."""
    _helper(tmp_path, monkeypatch, "echo credentials not found in native keychain; exit 1")
    assert await _login(tmp_path, {"credsStore": "cave"}).header("r") is None


@pytest.mark.parametrize("script", ["echo canary; exit 1", "echo canary", """echo '{"Secret": "canary"}'"""])
async def test_a_helper_that_fails_is_named_and_its_words_are_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str
) -> None:
    """What it says may hold the password."""
    _helper(tmp_path, monkeypatch, script)
    with pytest.raises(BadCredentials) as caught:
        await _login(tmp_path, {"credHelpers": {"r": "cave"}}).header("r")
    assert "docker-credential-cave" in str(caught.value) and "canary" not in str(caught.value)


@pytest.mark.parametrize("config", ["{", {"credsStore": "missing"}, {"auths": {"r": {"auth": "not base64!"}}}])
async def test_a_login_that_cannot_be_read_names_the_file(tmp_path: Path, config: Any) -> None:
    with pytest.raises(BadCredentials) as caught:
        await _login(tmp_path, config).header("r")
    assert str(tmp_path / "config.json") in str(caught.value)


# -- archives ----------------------------------------------------------------------------------------------------------


def test_layers_are_known_by_what_is_below_them() -> None:
    """A layer that the engine has over other layers must be sent: left out, the load fails."""
    assert known_layers("abc", ["abx", "xbc", "a"]) == 2
    assert known_layers("abc", ["bc", ""]) == 0
    assert known_layers("abc", ["abcd"]) == 3
    assert known_layers("abc", []) == 0


@pytest.mark.parametrize(
    ("version", "number"), [("20.10.24+dfsg1", 20), ("v29.0.1", 29), ("23.0", 23), ("", 0), ("library-import", 0)]
)
def test_an_engines_version_is_read(version: str, number: int) -> None:
    assert major(version) == number


def test_a_damaged_image_is_told_in_words() -> None:
    with pytest.raises(BadImage):
        read_manifest(b"{")
    with pytest.raises(BadImage):
        read_manifest(b'{"layers": [{}], "config": {}}')
    row = {"digest": "sha256:1", "size": 1, "mediaType": "x"}
    manifest = read_manifest(json.dumps({"config": row, "layers": [row]}).encode())
    for config in (b"[]", b'{"rootfs": {"diff_ids": []}, "config": {}}'):
        with pytest.raises(BadImage):
            read_image(manifest, config)
