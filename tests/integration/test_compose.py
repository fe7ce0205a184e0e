"""What an operator starts: the images, and the stack of docker-compose.yml on a real Engine, from a clean checkout."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Iterator

import pytest
import requests

from tests.integration.compose import CANARY, Compose, network_settings, stack
from tests.integration.stack import YAML, until
from tests.parallel import free_port

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

LIMITS = {"cloud-manager": 215, "image-builder": 250}
"""MB, as `docker images` counts them, on a plain Debian; Google's clients are 50 of them."""
IN_TIME = 9.0
"""Seconds; docker kills after ten."""
SLOWLY = f"{YAML}  env: {{PAUSE: '3'}}\n"
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


def test_only_the_managers_port_is_published_and_on_loopback(compose: Compose) -> None:
    assert compose.container("image-builder")["HostConfig"]["PortBindings"] == {}
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
