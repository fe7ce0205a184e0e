"""What the tests of whole images share: a builder, a registry, and projects whose images are published once."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.image_builder.service import serving
from tests.integration.works import Works


@pytest.fixture(scope="session")
def works(
    tmp_path_factory: pytest.TempPathFactory, registry: str, base_image: str, docker_engine: str
) -> Iterator[Works]:
    home = tmp_path_factory.mktemp("works")
    (home / "shared").mkdir()
    with serving(home / "state", home / "shared", DOCKER_HOST=docker_engine, BUILD_NETWORK="host") as service:
        yield Works(service, home / "shared", registry, base_image, docker_engine)
