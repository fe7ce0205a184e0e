"""Whether a started container comes up: the startup probe. By real time, since the container's is real."""

from __future__ import annotations

import asyncio
import socket

import httpx

from gcp_emulator.runtime_protocol import Instance, StartupProbe

_LOOK = 0.03
"""Seconds between two looks at a port: a probe that waits answers as soon as it can."""


async def comes_up(instance: Instance, probe: StartupProbe) -> bool:
    """Whether it is ready before it ends or the probe has failed often enough."""
    await _unless_ended(instance, probe.initial_delay)
    for _ in range(probe.threshold):
        began = asyncio.get_running_loop().time()
        if await _answers(instance, probe):
            return True
        if instance.status is not None:
            return False
        await _unless_ended(instance, probe.period - (asyncio.get_running_loop().time() - began))
    return False


async def _unless_ended(instance: Instance, seconds: float) -> None:
    loop = asyncio.get_running_loop()
    until = loop.time() + seconds
    while instance.status is None and (left := until - loop.time()) > 0:  # noqa: ASYNC110 - bounded, and nobody tells
        await asyncio.sleep(min(left, 0.1))


async def _answers(instance: Instance, probe: StartupProbe) -> bool:
    """One attempt: a TCP probe waits for the port as long as its timeout, an HTTP probe for the answer."""
    try:
        async with asyncio.timeout(probe.timeout):
            await _listening(instance)
            if instance.status is not None:
                return False
            return probe.kind != "http_get" or await _get(instance, probe)
    except TimeoutError:
        return False


async def _listening(instance: Instance) -> None:
    """Until the port answers, or nothing ever will."""
    while instance.status is None:
        if await can_connect(*instance.address):
            return
        await asyncio.sleep(_LOOK)


async def can_connect(host: str, port: int) -> bool:
    """Within a second: a container that has just ended answers to nothing, not even with a refusal."""
    try:
        async with asyncio.timeout(1.0):
            _, writer = await asyncio.open_connection(host, port, family=socket.AF_INET)
    except (OSError, TimeoutError):
        return False
    writer.close()
    return True


async def _get(instance: Instance, probe: StartupProbe) -> bool:
    """200 to 399 is success. https://cloud.google.com/run/docs/configuring/healthchecks#http-probes"""
    host, port = instance.address
    async with httpx.AsyncClient(trust_env=False, timeout=probe.timeout) as client:
        try:
            answer = await client.get(f"http://{host}:{port}{probe.path}", headers=list(probe.headers))
        except httpx.HTTPError:
            return False
    return 200 <= answer.status_code < 400
