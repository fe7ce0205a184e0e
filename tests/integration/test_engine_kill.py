"""kill -9 of the Docker Engine, and its return: at rest, and in the middle of a deployment."""

from __future__ import annotations

import shutil
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.stack import Stack, running, until
from tests.own_engine import OwnEngine, own_engine

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

PERIOD = 2.0
YAML = """\
build: {{image_uri: {image}}}
deploy:
  type: docker
  env: {{WORD: {word}, BEHAVIOUR: serve}}
  entrypoint: [sh, -c, "sleep {pause}; exec python3 /server.py"]
"""


@pytest.fixture(scope="module")
def engine(docker_engine: str, docker_base: str) -> Iterator[OwnEngine]:
    folder = Path(tempfile.mkdtemp(prefix="cd-"))  # a short path: it holds sockets
    with own_engine(folder) as made:
        made.take(docker_base, docker_engine)
        yield made
    shutil.rmtree(folder)


@pytest.fixture
def stack(engine: OwnEngine, tmp_path: Path) -> Iterator[Stack]:
    with running(tmp_path, DOCKER_HOST=engine.host, RESYNC_SECONDS=str(PERIOD), DOCKER_OWNER="killed") as made:
        yield made
        made.get("/stop")
        made.wait("stopped")
    assert engine.docker("ps", "-aq") == ""


def write(stack: Stack, image: str, word: str, pause: float = 0) -> None:
    stack.project(yaml=YAML.format(image=image, word=word, pause=pause))
    stack.begin()


def serves(stack: Stack, engine: OwnEngine, word: str) -> bool:
    url = stack.show()["url"]
    return bool(url) and engine.ask(url) == word


def test_a_service_survives_the_engine(stack: Stack, engine: OwnEngine, docker_base: str) -> None:
    """And while it is away, nobody is told that the service runs."""
    write(stack, docker_base, "one")
    stack.wait("running")
    assert serves(stack, engine, "one")
    url, containers = stack.show()["url"], engine.docker("ps", "-q").split()
    engine.kill()
    until("another word than running", lambda: stack.word() == "preparing", PERIOD + 8)
    assert engine.ask(url) is None
    assert stack.show()["problem"]["code"] == "engine_unavailable"
    engine.start()
    stack.wait("running")
    assert stack.show()["url"] == url
    until("the service to answer", lambda: serves(stack, engine, "one"), PERIOD)
    assert sorted(engine.docker("ps", "-aq").split()) == sorted(containers), "the Engine's own deed, no new deployment"
    assert len(containers) == 2, "a program and a front"


@pytest.mark.parametrize("after", [1.0, *(pytest.param(time, marks=pytest.mark.long) for time in (0.0, 0.3, 3.0, 6.0))])
def test_a_deployment_survives_the_engine(stack: Stack, engine: OwnEngine, docker_base: str, after: float) -> None:
    """Killed in its middle; the old revision is the one that answers until the new one does."""
    write(stack, docker_base, "one")
    stack.wait("running")
    write(stack, docker_base, "two", pause=4)
    stack.wait("preparing")
    threading.Event().wait(after)
    engine.kill()
    until("no word of running", lambda: stack.word() == "preparing", PERIOD + 8)
    engine.start()
    stack.wait("running")
    until("the new revision to answer", lambda: serves(stack, engine, "two"), PERIOD)
    until("the older revision to have gone", lambda: len(engine.docker("ps", "-aq").split()) == 2)
