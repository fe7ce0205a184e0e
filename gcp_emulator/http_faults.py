"""Faults of HTTP services, around any ASGI application."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gcp_emulator.clock import Clock
from gcp_emulator.faults import Fault, Faults

Render = Callable[[Fault, str], Response]
"""From a fault and its words to the error in the form of this service."""


class HttpFaults:
    """The call's name is `VERB host/path`, its resource the path."""

    def __init__(self, app: ASGIApp, faults: Faults, clock: Clock, render: Render, project_number: str) -> None:
        self._app = app
        self._faults = faults
        self._clock = clock
        self._render = render
        self._project_number = project_number

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        host = Headers(scope=scope).get("host", "").partition(":")[0]
        call = f"{scope['method']} {host}{scope['path']}"
        fault = self._faults.strike(call, scope["path"])
        if fault is None:
            await self._app(scope, receive, send)
            return
        await self._wait(fault)
        if fault.code == "OK":
            await self._app(scope, receive, send)
            return
        if fault.when == "after":
            await self._app(scope, receive, _nowhere)
        answer = self._render(fault, fault.words(call, scope["path"], self._project_number))
        await answer(scope, receive, send)

    async def _wait(self, fault: Fault) -> None:
        if fault.forever:
            await asyncio.Event().wait()
        if fault.seconds:
            await self._clock.sleep(fault.seconds)


async def _nowhere(_: Message) -> None:
    """The answer is lost."""
