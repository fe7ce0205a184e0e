"""What surrounds pages: nothing of another host is fetched or framed, where there is no internet they are whole, and
elsewhere nobody learns that they were opened. Redoc's own script would fetch a logo, Swagger's a badge.
"""

from __future__ import annotations

import base64
import hashlib
import re

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

# https://www.w3.org/TR/CSP3/
_STRICT = (
    "default-src 'none'; style-src 'self'; img-src 'self' data:; base-uri 'none'; form-action 'self'; "
    "frame-ancestors 'none'"
)
_DOCUMENTATION = (
    "default-src 'none'; script-src 'self' {scripts}; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; "
    "font-src 'self' data:; connect-src 'self'; worker-src 'self' blob:; child-src 'self' blob:; base-uri 'none'; "
    "form-action 'self'; frame-ancestors 'none'"
)
"""Styles are theirs to write; of scripts, only those that the server wrote into the page."""
_PAGES = frozenset({"/docs", "/redoc"})
_INLINE = re.compile(rb"<script>(.*?)</script>", re.DOTALL)


class OwnHostOnly:
    """ASGI middleware. A page that brings a policy of its own keeps it."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        start: Message | None = None
        page = scope.get("path") in _PAGES

        async def send_guarded(message: Message) -> None:
            nonlocal start
            if message["type"] == "http.response.start" and page:
                start = message  # Its policy is written once its scripts are known.
                return
            if message["type"] == "http.response.start":
                _guard(message, _STRICT)
            elif start is not None:
                _guard(start, _documentation(message.get("body", b"")))
                await send(start)
                start = None
            await send(message)

        await self._app(scope, receive, send_guarded if scope["type"] == "http" else send)


def _guard(start: Message, policy: str) -> None:
    headers = MutableHeaders(scope=start)
    headers.setdefault("X-Content-Type-Options", "nosniff")
    if not headers.get("content-type", "").startswith("text/html"):
        return
    headers.setdefault("Content-Security-Policy", policy)
    headers.setdefault("Referrer-Policy", "no-referrer")
    headers.setdefault("X-Frame-Options", "DENY")
    headers.setdefault("Cross-Origin-Opener-Policy", "same-origin")


def _documentation(page: bytes) -> str:
    """https://www.w3.org/TR/CSP3/#external-hash: the page's own scripts by their hashes."""
    hashes = (base64.b64encode(hashlib.sha256(script).digest()).decode() for script in _INLINE.findall(page))
    return _DOCUMENTATION.format(scripts=" ".join(f"'sha256-{each}'" for each in hashes))
