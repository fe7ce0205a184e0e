"""What only some of the targets need."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest

from tests.conformance.docker_harness import Docker, server_image

_MOMENTS = ("0.2",)
"""Of the moments at which an apply is cancelled, those that CI tries on a real Engine; `make test` tries all."""


@pytest.hookimpl(tryfirst=True)
def pytest_itemcollected(item: pytest.Item) -> None:
    """Each takes seconds of a real Engine."""
    kind, _, moment = item.name.partition("[")[2].rstrip("]").partition("-")
    if kind == "docker" and moment and moment not in _MOMENTS:
        item.add_marker(pytest.mark.long)


@pytest.fixture(scope="session")
def docker_base(docker_engine: str, base_image: str) -> Iterator[str]:
    """An image of the Engine's that answers GETs."""
    docker = Docker(docker_engine)
    tag = server_image(docker, base_image, f"conformance-{uuid.uuid4().hex[:10]}:base")
    yield tag
    docker("rmi", tag)
