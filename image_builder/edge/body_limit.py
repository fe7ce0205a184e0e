"""How much of a body is taken in, and how long that may take, whatever a call does with it."""

from __future__ import annotations

import asyncio

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_CLOSE = {"Connection": "close"}
"""What is still to come of the body is not read."""


class BodyLimit:
    """ASGI middleware: too large, declared or not, is answered 413; too slow 408."""

    def __init__(self, app: ASGIApp, *, largest: int, patience: float) -> None:
        """largest: bytes. patience: seconds for the whole body."""
        self._app = app
        self._largest = largest
        self._patience = patience

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not _has_body(scope):
            await self._app(scope, receive, send)
            return
        received, coming = 0, True
        end = asyncio.get_running_loop().time() + self._patience

        async def bounded() -> Message:
            nonlocal received, coming
            try:
                async with asyncio.timeout_at(end if coming else None):
                    message = await receive()
            except TimeoutError as error:
                raise HTTPException(408, f"the body did not come within {self._patience:g} s", _CLOSE) from error
            received += len(message.get("body", b""))
            coming = message.get("more_body", False)
            if received > self._largest:
                raise HTTPException(413, f"the body is larger than {self._largest // 1024} KiB", _CLOSE)
            return message

        await self._app(scope, bounded, send)


def _has_body(scope: Scope) -> bool:
    headers = Headers(scope=scope)
    return headers.get("content-length", "0") != "0" or "transfer-encoding" in headers
