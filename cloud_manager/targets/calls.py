"""Calls of a cloud, told to whoever counts them: `metrics.Metrics.cloud_call` does."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from cloud_manager.errors import DeployError

Told = Callable[[str, str, str], None]
"""Hears of each call: the cloud, the method without any name, and `ok`, the code of the error, or `other`."""


def untold(cloud: str, method: str, result: str) -> None:
    """Nobody listens."""


@contextmanager
def counted(told: Told, cloud: str, method: str) -> Iterator[None]:
    """What is done in the block is one call; cancelled, it is `other`."""
    result = "other"
    try:
        yield
        result = "ok"
    except DeployError as error:
        result = error.problem.code
        raise
    finally:
        told(cloud, method, result)
