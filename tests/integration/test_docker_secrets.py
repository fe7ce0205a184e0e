"""A secret on its way to a container on a real Engine: whoever may look at anything else never sees it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from tests.conformance.docker_harness import Docker
from tests.integration.stack import Stack, running

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

CANARY = "canary-7d1e90"
YAML = """\
build: {{image_uri: {image}}}
deploy:
  type: docker
  env: {{WORD: one, BEHAVIOUR: {behaviour}}}
  secrets: {{API_KEY: key}}
"""
PAGES = ("", "/events?limit=1000", "/logs?tail=1000", "/revisions")


@pytest.fixture
def stack(docker_engine: str, tmp_path: Path) -> Iterator[Stack]:
    secrets, root = tmp_path / "secrets", tmp_path / "stack"
    for folder in (secrets, root):
        folder.mkdir()
    (secrets / "key").write_text(CANARY)
    more = {"DOCKER_HOST": docker_engine, "DOCKER_OWNER": "secretive", "SECRETS_DIR": str(secrets)}
    with running(root, LOG_LEVEL="DEBUG", **more) as made:
        yield made
        made.get("/stop")
        made.wait("stopped")


def test_it_is_in_no_answer_no_event_no_log_no_database_and_no_inspect(
    stack: Stack, docker_engine: str, docker_base: str
) -> None:
    """Neither of one that runs nor of one that fails."""
    docker = Docker(docker_engine)
    for behaviour, word in (("serve", "running"), ("exit", "failed")):
        stack.project(yaml=YAML.format(image=docker_base, behaviour=behaviour))
        stack.begin()
        stack.wait(word)
        if word == "running":
            assert requests.get(f"{stack.show()['url']}/secret", timeout=10).text == CANARY, "the program has it"
        boxes = docker("ps", "-aq", "--filter", "label=io.tango.cloud-deploy.owner=secretive").split()
        assert boxes
        shown = [docker("inspect", *boxes), docker("image", "inspect", docker_base)]
        shown += [docker("logs", box) for box in boxes]
        shown += [_page(stack, page) for page in PAGES]
        assert CANARY not in "\n".join(shown)
    kept = [path for path in stack.root.rglob("*") if path.is_file()]
    assert not [path for path in kept if CANARY.encode() in path.read_bytes()], "rows, logs of both, images"


def _page(stack: Stack, page: str) -> str:
    return requests.get(f"http://127.0.0.1:{stack.port('manager')}/api/v1/deployments/7/42{page}", timeout=20).text
