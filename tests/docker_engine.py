"""A real Docker Engine for the tests: the one that runs, else one that is started for this session."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests import needs

_SOCKET = "/var/run/docker.sock"


@pytest.fixture(scope="session")
def docker_engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """DOCKER_HOST of an engine. What was started for it is stopped by its own process id."""
    needs.root_on_linux("a Docker Engine of one's own")
    host = os.environ.get("DOCKER_HOST") or f"unix://{_SOCKET}"
    if _answers(host):
        yield host
        return
    yield from _serve(needs.program("dockerd"), tmp_path_factory.mktemp("dockerd"))


def _serve(program: str, folder: Path) -> Iterator[str]:
    from tests.integration.stack import until

    host = f"unix://{folder}/docker.sock"
    places = ["--data-root", folder / "data", "--exec-root", folder / "exec", "--pidfile", folder / "pid"]
    log = folder / "log"
    with log.open("wb") as out:
        process = subprocess.Popen([program, "-H", host, *places], stdout=out, stderr=out)
        try:

            def ready() -> bool:
                if process.poll() is not None:
                    needs.missing(f"dockerd cannot run here: {log.read_text(errors='replace')[-300:]}")
                return _answers(host)

            until("the Docker Engine to answer", ready)
            yield host
        finally:
            process.terminate()
            process.wait()
            for left in folder.glob("exec/netns/*"):  # dockerd leaves its own network namespace mounted
                subprocess.run(["umount", left], check=False, capture_output=True)


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
