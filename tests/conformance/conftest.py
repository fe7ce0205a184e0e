"""What only some of the targets need."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from tests.gcp_emulator.emulated import Emulator

if TYPE_CHECKING:
    from tests.conformance.cloud_run_harness import Google

_MOMENTS = ("0.2",)
"""Of the moments at which an apply is cancelled, those that CI tries where each takes seconds. `make test`: all."""


@pytest.hookimpl(tryfirst=True)
def pytest_itemcollected(item: pytest.Item) -> None:
    kind, _, moment = item.name.partition("[")[2].rstrip("]").partition("-")
    if kind in ("docker", "cloud_run") and moment and moment not in _MOMENTS:
        item.add_marker(pytest.mark.long)


@pytest.fixture(scope="session")
def google(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Google]:
    """The twin of Google, as a process."""
    from tests.conformance.cloud_run_harness import Google

    emulator = Emulator(tmp_path_factory.mktemp("google"))
    emulator.start()
    yield Google(emulator)
    emulator.kill(signal.SIGTERM)
