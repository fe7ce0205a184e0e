"""The profile `postgres` of docker-compose.yml: a database, two managers, and one of them killed."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from tests.conformance.docker_harness import Docker
from tests.integration.compose import CANARY, Compose, network_settings, stack
from tests.integration.stack import until
from tests.parallel import free_port

pytestmark = [pytest.mark.long, pytest.mark.slow, pytest.mark.timeout(900)]

# With the database made as in the plainest of places, without a locale. What the official image takes from POSTGRES_*: https://github.com/docker-library/docs/tree/master/postgres
START = """\
#!/bin/sh
set -eu
data=/var/lib/postgresql/data bin=$(echo /usr/lib/postgresql/*/bin)
if [ "$(id -u)" = 0 ]; then
    mkdir -p $data && chown postgres $data && chmod 700 $data
    exec setpriv --reuid postgres --regid postgres --clear-groups sh "$0"
fi
if [ ! -s $data/PG_VERSION ]; then
    printf %s "$POSTGRES_PASSWORD" >/tmp/password
    $bin/initdb --no-sync -U "$POSTGRES_USER" -D $data --pwfile /tmp/password -A scram-sha-256 >/tmp/initdb.log
    echo "host all all all scram-sha-256" >>$data/pg_hba.conf
    echo "CREATE DATABASE $POSTGRES_DB;" | $bin/postgres --single -D $data postgres
fi
exec $bin/postgres -D $data -k /tmp -c listen_addresses='*'
"""
DOCKERFILE = """\
FROM {base}
RUN apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq --no-install-recommends postgresql
ADD start /
ENTRYPOINT ["sh", "/start"]
"""
YAML = """\
build: {{image_uri: "{image}"}}
deploy:
  type: docker
  env: {{WORD: {word}, BEHAVIOUR: serve}}
  entrypoint: [sh, -c, "sleep {pause}; exec python3 /server.py"]
  network: {{service_host_port: {port}, service_container_port: 8080}}
"""


@pytest.fixture
def postgres_image(docker_engine: str, bare_debian: str) -> Iterator[str]:
    """None can be pulled in CI: Debian's own, behind the official image's interface."""
    docker = Docker(docker_engine)
    tag = "cloud-deploy-test/postgres:debian"
    yield docker.build(tag, DOCKERFILE.format(base=bare_debian), network="host", start=START)
    docker("rmi", tag)


@pytest.fixture
def compose(
    tmp_path: Path, docker_engine: str, base_image: str, docker_base: str, postgres_image: str
) -> Iterator[Compose]:
    settings = asyncio.run(network_settings(os.environ)) | {
        "COMPOSE_PROFILES": "postgres",
        "POSTGRES_IMAGE": postgres_image,
        "POSTGRES_PASSWORD": CANARY,
        "DATABASE_URL": f"postgresql://cloud_deploy:{CANARY}@postgres/cloud_deploy",
    }
    with stack(tmp_path, docker_engine, base_image, settings) as it:
        it.docker("pull", "-q", base_image)
        it("build")
        it.open_socket()
        it.start_caller()
        yield it


def test_one_of_two_managers_is_killed(compose: Compose, docker_base: str) -> None:
    """Otherwise a second one is no help."""
    managers = ("cloud-manager", "cloud-manager-2")
    for manager in managers:
        until(f"{manager} to be healthy", lambda name=manager: compose.healthy(name), 120)
    port = free_port()
    url = f"http://127.0.0.1:{port}"

    def begin(word: str, pause: int) -> None:
        compose.write(yaml=YAML.format(image=docker_base, word=word, pause=pause, port=port))
        assert compose.call("/start") == "started"

    for victim, word in zip(managers, ("one", "two"), strict=True):
        begin(word, 4)
        compose.wait("preparing")
        compose.docker("kill", compose.container(victim)["Id"])
        compose.wait("running")
        until(f"the answer {word}", lambda said=word: requests.get(url, timeout=10).text == said)
        compose.docker("start", compose.container(victim)["Id"])
        until(f"{victim} to be healthy", lambda name=victim: compose.healthy(name), 60)
    assert len(compose.services()) == 2, "a program and its front, made once"
    assert compose.call("/stop") == "finished"
    compose.wait("stopped")
    assert compose.services() == []
    assert CANARY not in compose("logs") + compose.story()
