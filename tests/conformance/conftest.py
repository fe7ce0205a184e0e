"""What only some of the targets need."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

import pytest

from tests.conformance.docker_harness import Docker


@pytest.fixture(scope="session")
def docker_base(docker_engine: str, base_image: str) -> Iterator[str]:
    """Reference of an image with python that the Engine has."""
    docker = Docker(docker_engine)
    docker("pull", "-q", base_image)
    yield base_image
    subprocess.run(["docker", "-H", docker_engine, "rmi", base_image], capture_output=True, check=False)
