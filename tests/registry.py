"""A real registry (the distribution project's, as Debian packages it) for the tests that push and pull."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import needs
from tests.parallel import free_port


@pytest.fixture(scope="session")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """`127.0.0.1:PORT` of a running registry."""
    program = needs.program("docker-registry")
    folder = tmp_path_factory.mktemp("registry")
    yield from serve(program, folder)


def serve(program: str, folder: Path) -> Iterator[str]:
    address = f"127.0.0.1:{free_port()}"
    config = folder / "config.yml"
    config.write_text(
        f"version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {folder / 'data'}}}}}\n"
        f"http: {{addr: {address}}}\n"
    )
    process = subprocess.Popen([program, "serve", str(config)], stderr=subprocess.DEVNULL)
    try:
        _wait(address)
        yield address
    finally:
        process.terminate()
        process.wait()


def _wait(address: str) -> None:
    from tests.integration.stack import until

    host, port = address.split(":")

    def listens() -> bool:
        with socket.socket() as sock:
            return sock.connect_ex((host, int(port))) == 0

    until("the registry to listen", listens)
