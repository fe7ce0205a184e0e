"""A Dockerfile built by Docker's own builder, line by line."""

from __future__ import annotations

import json
import re
from collections import deque
from collections.abc import Sequence
from typing import Any

from image_builder.engines import apt
from image_builder.engines.context import DOCKERFILE, Context, context_tar
from image_builder.engines.docker_api import Connection, Upload
from image_builder.engines.engine import Log, Surroundings, dockerfile_failed, engine_failed, network_failed
from image_builder.work import to_the_end

_STARTED = re.compile(r"^ ---> Running in ([0-9a-f]{12,64})")
_TAIL = 20


async def build(engine: Connection, context: Context, around: Surroundings, log: Log) -> str:
    """Id of the image.

    Raises:
        BuildError: `dockerfile_failed`, `engine_failed`.
    """
    tail: deque[str] = deque(maxlen=_TAIL)
    started: list[str] = []
    image = ""
    try:
        async for row in engine.lines("POST", "/build", **_request(context, around)):
            image = (row.get("aux") or {}).get("ID") or image
            if "error" in row:
                reason = str(row["error"])
                raise network_failed("docker", reason, around.network) or dockerfile_failed("docker", reason, tail)
            for line in _said(row):
                tail.append(line)
                started += _STARTED.findall(line)
                log(f"docker: {line}")
    finally:
        # The engine stops what it ran for us by itself, but we may be gone before.
        await to_the_end(_remove_all(engine, started))
    if not image:
        raise engine_failed("docker", "the build ended without an image")
    return image


def _request(context: Context, around: Surroundings) -> dict[str, Any]:
    return {
        "params": {
            "dockerfile": DOCKERFILE,
            "forcerm": "1",
            "platform": context.platform,
            "networkmode": around.network,
            # Docker knows these names: they come neither into the image nor into its history.
            "buildargs": json.dumps(apt.proxies(around.environ)),
        },
        "headers": {"Content-Type": "application/x-tar"},
        "content": Upload(context_tar(context)),
    }


def _said(row: dict[str, Any]) -> list[str]:
    return [line.rstrip() for line in str(row.get("stream", "")).splitlines() if line.strip()]


async def _remove_all(engine: Connection, containers: Sequence[str]) -> None:
    for container in containers:
        await remove_container(engine, container)


async def remove_container(engine: Connection, container: str) -> None:
    """With what runs in it, and its unnamed volumes. One that is going or gone is no error."""
    await engine.call("DELETE", f"/containers/{container}", 404, 409, params={"force": "1", "v": "1"})
