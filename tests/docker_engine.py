"""A real Docker Engine for the tests: the one that runs, else one that is started for this session."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from tests import needs
from tests.parallel import started_once

_SOCKET = "/var/run/docker.sock"


@pytest.fixture(scope="session")
def docker_engine(common_folder: Path) -> str:
    """DOCKER_HOST of an engine, the same for all workers."""
    needs.root_on_linux("a Docker Engine of one's own")
    host = os.environ.get("DOCKER_HOST") or f"unix://{_SOCKET}"
    return host if _answers(host) else started_once(common_folder, "dockerd", _serve)


@pytest.fixture(scope="session")
def docker_base(docker_engine: str, base_image: str) -> Iterator[str]:
    """An image of the Engine's that answers GETs."""
    from tests.conformance.docker_harness import Docker, server_image

    docker = Docker(docker_engine)
    tag = server_image(docker, base_image, f"conformance-{uuid.uuid4().hex[:10]}:base")
    yield tag
    docker("rmi", tag)


def _serve(folder: Path) -> tuple[psutil.Popen, str]:
    from tests.integration.stack import until

    host = f"unix://{folder}/docker.sock"
    places = ["--data-root", folder / "data", "--exec-root", folder / "exec", "--pidfile", folder / "pid"]
    log = folder / "log"
    command = [needs.program("dockerd"), "-H", host, *places]
    with log.open("wb") as out:
        process = psutil.Popen(command, stdout=out, stderr=out, start_new_session=True)

    def ready() -> bool:
        if process.poll() is not None:
            needs.missing(f"dockerd cannot run here: {log.read_text(errors='replace')[-300:]}")
        return _answers(host)

    try:
        until("the Docker Engine to answer", ready)
    except BaseException:
        process.kill()
        process.wait()
        raise
    return process, host


def _answers(host: str) -> bool:
    if not host.startswith("unix://"):
        return True
    if not Path(host.removeprefix("unix://")).exists():
        return False  # asked at all, httpx would leave its socket open: a warning, and so an error
    try:
        with httpx.Client(transport=httpx.HTTPTransport(uds=host.removeprefix("unix://")), trust_env=False) as http:
            return http.get("http://docker/info", timeout=20).is_success
    except httpx.TransportError:
        return False
