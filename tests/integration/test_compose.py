"""What an operator starts: the images, and the stack of docker-compose.yml on a real Engine, from a clean checkout."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
import yaml

from tests.integration.compose import CANARY, ROOT, Compose, network_settings, program, stack
from tests.integration.stack import YAML, until
from tests.parallel import free_port

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

LIMITS = {"cloud-manager": 215, "image-builder": 250}
"""MB, as `docker images` counts them, on a plain Debian; Google's clients are 50 of them."""
IN_TIME = 9.0
"""Seconds; docker kills after ten."""
SLOWLY = f"{YAML}  env: {{PAUSE: '3'}}\n"
CLOUD = YAML.replace("type: local", "type: gcp-cloudrun\n  public: true")
DIALECT = """\
build:
  accelerator: cpu
  architecture: linux/amd64
  base_image: BASE
  components:
    custom_packages:
      atp: []
      pypi: []
    libs:
    - python==3.11
  os: ubuntu
deploy:
  entrypoint:
  - server.py
  - -p
  - opt1
  network:
    service_container_port: 8901
    service_host_ip: 127.0.0.1
    service_host_port: 'PORT'
  service_name: hello
  type: docker
"""
COMPILERS = "for name in gcc cc c++ ld make cargo rustc go; do command -v $name && exit 1; done; true"
LEFTOVERS = "find /opt /root /tmp -name pip -o -name setuptools -o -name '*.whl' -o -name '*.lock' 2>/dev/null || true"


@pytest.fixture(scope="module", params=["v1", pytest.param("v2", marks=pytest.mark.long)])
def compose(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, docker_engine: str, base_image: str
) -> Iterator[Compose]:
    """Built and started as the README says, with a name of the company in its settings."""
    settings = asyncio.run(network_settings(os.environ))
    settings |= {"LOCAL_TARGET": "1", "PIP_TRUSTED_HOST": f"{CANARY}.example"}
    version = int(request.param[1:])
    with stack(tmp_path_factory.mktemp("checkout"), docker_engine, base_image, settings, version=version) as it:
        it.docker("pull", "-q", base_image)
        it("build")
        it("up", "-d", "--no-build")
        it.start_caller()
        until("the manager to answer", it.answers, 90)
        yield it


@pytest.mark.parametrize("service", LIMITS)
def test_an_image_is_small_and_runs_as_nobody_in_particular(compose: Compose, service: str) -> None:
    until(f"{service} to be healthy", lambda: compose.healthy(service), 60)
    image = compose.inspect(compose.images[service])
    assert image["Size"] / 1e6 < LIMITS[service]
    user, group = image["Config"]["User"].split(":")
    assert (int(user), int(group)) == (10001, 10001)
    assert image["Config"]["Healthcheck"]["Test"][0] == "CMD"
    assert image["Config"]["Labels"]["org.opencontainers.image.licenses"] == "Apache-2.0"


@pytest.mark.parametrize("service", LIMITS)
def test_nothing_of_the_building_is_left_in_an_image(compose: Compose, service: str) -> None:
    """No compiler, no pip, and nothing of the company's package index, whose address may have a password."""
    compose.inside(service, "sh", "-c", COMPILERS)
    assert compose.inside(service, "sh", "-c", LEFTOVERS) == ""
    image = compose.images[service]
    assert CANARY not in compose.docker("image", "history", "--no-trunc", image)
    assert CANARY not in compose.docker("inspect", image)
    assert compose.saved_without(CANARY, image)


@pytest.mark.parametrize("service", LIMITS)
def test_a_container_can_write_its_volume_and_nothing_else(compose: Compose, service: str) -> None:
    container = compose.container(service)
    host = container["HostConfig"]
    assert host["ReadonlyRootfs"] and host["Init"] and host["CapDrop"] == ["ALL"] and host["PidsLimit"] == 1024
    assert "no-new-privileges:true" in host["SecurityOpt"] and host["Memory"] > 0
    refused = compose.inside(service, "sh", "-c", "for each in /x /opt/x /shared/x; do touch $each 2>&1; done; true")
    assert refused.count("Read-only file system") == 3
    compose.inside(service, "touch", "/tmp/x", "/var/lib/cloud-deploy/x")
    mounts = {mount["Destination"]: mount for mount in container["Mounts"]}
    assert not any("docker.sock" in place for place in mounts), "the socket is for those who ask for it"
    assert mounts["/var/lib/cloud-deploy"]["Name"].startswith(compose.project)


def test_only_the_managers_port_and_the_gui_are_published_and_on_loopback(compose: Compose) -> None:
    """Not the builder's API: whoever reaches it has images built."""
    ports = compose.container("image-builder")["HostConfig"]["PortBindings"]
    assert ports == {"8080/tcp": [{"HostIp": "127.0.0.1", "HostPort": str(compose.web_port)}]}
    ports = compose.container("cloud-manager")["HostConfig"]["PortBindings"]
    assert ports == {"8890/tcp": [{"HostIp": "127.0.0.1", "HostPort": str(compose.port)}]}


def test_the_project_managers_three_calls(compose: Compose) -> None:
    compose.write(text="hello")
    assert compose.call("/start") == "started"
    compose.wait("running")
    assert compose.answer() == "hello"
    compose.write(text="changed")
    assert compose.call("/start") == "started"
    until("the new program to answer", lambda: compose.answer() == "changed", 30)
    assert compose.call("/stop") == "finished"
    compose.wait("stopped")


def test_a_killed_manager_returns_and_finishes_what_it_began(compose: Compose) -> None:
    compose.write("killed", yaml=SLOWLY)
    compose.call("/start", "killed")
    before = compose.container("cloud-manager")
    until("the deployment to be under way", lambda: "starting the service" in compose.story("killed"))
    os.kill(before["State"]["Pid"], signal.SIGKILL)
    until("Docker to start it again", lambda: compose.container("cloud-manager")["RestartCount"] == 1)
    until("the manager to answer", compose.answers)
    compose.wait("running", "killed")
    assert compose.answer("killed") == "hello"
    assert compose.container("cloud-manager")["Id"] == before["Id"]


def test_both_stop_in_time_and_go_on_where_they_were(compose: Compose) -> None:
    for service in compose.images:
        started = time.monotonic()
        compose.docker("stop", compose.container(service)["Id"])
        assert time.monotonic() - started < IN_TIME, service
        state = compose.container(service)["State"]
        assert (state["ExitCode"], state["OOMKilled"]) in ((0, False), (143, False)), service
    compose("up", "-d", "--no-build")
    until("the manager to answer", compose.answers)
    compose.wait("running", "killed")


@pytest.mark.long
def test_a_file_in_tangos_words_runs_on_the_machines_engine(compose: Compose) -> None:
    """The code generator's `type: docker`; only the base is named here, which it leaves to the official one."""
    compose.open_socket()
    yaml, port = DIALECT.replace("BASE", compose.start_registry()), free_port()
    until("the manager to answer", compose.answers)
    compose.write("docker", text="one", yaml=yaml.replace("PORT", str(port)))
    assert compose.call("/start", "docker") == "started"
    compose.wait("running", "docker")
    url = f"http://127.0.0.1:{port}"
    assert requests.get(url, timeout=10).text == "one"
    compose.write("docker", text="two", yaml=yaml.replace("PORT", str(port)))
    compose.call("/start", "docker")
    until("the new program to answer", lambda: requests.get(url, timeout=10).text == "two")
    assert compose.call("/stop", "docker") == "finished"
    compose.wait("stopped", "docker")
    assert compose.services() == []


@pytest.mark.long
def test_a_service_of_the_twin_of_google_comes_up_and_answers(compose: Compose, tmp_path: Path) -> None:
    """What a developer without an account starts: the twin beside the two, which know it by their environment alone."""
    proxy = f"http://127.0.0.1:{compose.join_google()}"
    until("the manager to answer", compose.answers)
    compose.write("google", text="one", yaml=CLOUD)
    assert compose.call("/start", "google") == "started"
    compose.wait("running", "google")
    authority = tmp_path / "ca.pem"
    authority.write_text(compose.inside("google", "cat", "/var/lib/google/ca.pem"))
    answer = requests.get(compose.url("google"), proxies={"https": proxy}, verify=str(authority), timeout=20)
    assert answer.text == "one"
    assert compose.call("/stop", "google") == "finished"
    compose.wait("stopped", "google")


def test_the_files_of_the_profiles_fit_each_other(tmp_path: Path) -> None:
    """A slip in docker-compose.gcp.yml would be found by those alone who start it."""
    for name in ("docker-compose.yml", "docker-compose.gcp.yml"):
        shutil.copyfile(ROOT / name, tmp_path / name)
    (tmp_path / ".env").write_text("COMPOSE_FILE=docker-compose.yml:docker-compose.gcp.yml\nCOMPOSE_PROFILES=gcp\n")
    environ = {"PATH": os.environ["PATH"]}
    shown = subprocess.run([*program(1), "config"], cwd=tmp_path, env=environ, capture_output=True, check=True).stdout
    services = yaml.safe_load(shown)["services"]
    for service in ("cloud-manager", "image-builder"):
        told = services[service]["environment"]
        assert told["https_proxy"] == "http://google:8899" and told["GCP_PROJECT"] == "twin-project"
        assert told["GOOGLE_APPLICATION_CREDENTIALS"].startswith("/var/lib/google/")
        mounts = [str(one) for one in services[service]["volumes"]]
        assert any("/var/lib/google" in one for one in mounts) and any("/shared" in one for one in mounts)
    assert "8899" in str(services["google"]["ports"])


def test_down_leaves_the_volumes_and_down_v_not_even_these(compose: Compose) -> None:
    """The last test: what was made is gone."""
    logs = compose("logs")
    assert CANARY not in logs
    compose.remove_rest()
    compose("down")
    assert compose.left("container") == compose.left("network") == []
    assert {name.partition("_")[2] for name in compose.left("volume")} >= {"shared", "manager", "builder"}
    compose("down", "-v")
    assert compose.left("volume") == []
