"""The builder with an API_TOKEN: for those who have it, and for registries' clients in their own way."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from image_builder.access import OpenToAll, check_reach
from tests import needs
from tests.image_builder.service import Service, serving

TOKEN = "correct-horse-battery-staple"


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with serving(tmp_path_factory.mktemp("access") / "state", API_TOKEN=TOKEN) as service:
        yield service


@pytest.fixture(scope="module")
def image(service: Service) -> dict[str, str]:
    service.http.headers["Authorization"] = f"Bearer {TOKEN}"
    service.go()
    build = service.wait(service.ask(source="image")["id"], "succeeded")
    return dict(build["image"])


def ask(service: Service, path: str, **options: object) -> httpx.Response:
    return httpx.get(service.url + path, trust_env=False, timeout=20, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("path", ["/builds", "/images", "/cache", "/metrics", "/docs", "/openapi.json", "/nothing"])
def test_nothing_is_told_without_the_token(service: Service, path: str) -> None:
    """Else whoever reaches the port reads what every project is made of."""
    refused = ask(service, path)
    assert (refused.status_code, refused.json()["error"]["code"]) == (401, "unauthorized")
    assert refused.headers.get_list("www-authenticate") == ['Bearer realm="Cloud Deploy"', 'Basic realm="Cloud Deploy"']
    allowed = ask(service, path, headers={"Authorization": f"Bearer {TOKEN}"})
    assert allowed.status_code == (404 if path == "/nothing" else 200)


def test_a_health_check_needs_none(service: Service) -> None:
    assert ask(service, "/healthz").status_code == 200


def test_a_build_cannot_be_asked_for_without_it(service: Service) -> None:
    answer = httpx.post(f"{service.url}/builds", json={}, trust_env=False)
    assert answer.status_code == 401


def test_the_registry_refuses_as_registries_do(service: Service, image: dict[str, str]) -> None:
    """A client of registries that is sent to a token server would look for one, and there is none."""
    path = f"/v2/{image['repository']}/manifests/{image['digest']}"
    refused = ask(service, path)
    assert (refused.status_code, refused.json()["errors"][0]["code"]) == (401, "UNAUTHORIZED")
    assert refused.headers.get_list("www-authenticate") == ['Basic realm="Cloud Deploy"']
    assert ask(service, path, auth=("anybody", TOKEN)).headers["docker-content-digest"] == image["digest"]
    assert ask(service, path, auth=("anybody", "wrong")).status_code == 401


def test_skopeo_logs_in_with_it(service: Service, image: dict[str, str], tmp_path: Path) -> None:
    """As docker, podman and kubelet do: they share its way."""
    skopeo = needs.program("skopeo")
    source = f"docker://{service.url.removeprefix('http://')}/{image['repository']}@{image['digest']}"
    copy = [skopeo, "--insecure-policy", "copy", "--src-tls-verify=false", source, f"oci:{tmp_path / 'out'}:it"]
    refused = subprocess.run(copy, capture_output=True, text=True, timeout=60, check=False)
    assert refused.returncode != 0
    subprocess.run(
        [*copy[:3], "--src-creds", f"anybody:{TOKEN}", *copy[3:]], check=True, capture_output=True, timeout=60
    )
    assert (tmp_path / "out" / "index.json").exists()


def test_the_gui_asks_for_it(service: Service) -> None:
    found = re.search(r"GUI: (http://\S+)", service.log)
    assert found, service.log
    led = httpx.get(found[1], headers={"Accept": "text/html"}, trust_env=False, timeout=20)
    assert (led.status_code, led.headers["location"]) == (303, "/login?next=/")


def test_beyond_loopback_somebody_must_have_said_so() -> None:
    with pytest.raises(OpenToAll, match="ALLOW_NO_TOKEN"):
        check_reach("WEB_HOST", "0.0.0.0", "", allowed=False)


@pytest.mark.parametrize(("setting", "value"), [("API_TOKEN", "short"), ("WEB_HOST", "0.0.0.0")])
def test_a_setting_that_would_leave_it_open_is_refused(tmp_path: Path, setting: str, value: str) -> None:
    with pytest.raises(AssertionError, match=f"(?s)the service died.*{setting}"):
        Service(tmp_path / "state", tmp_path, **{setting: value})
