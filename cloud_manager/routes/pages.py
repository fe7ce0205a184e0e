"""The documentation pages, held to this host: where there is no internet they are whole, and elsewhere nobody learns
that they were opened. Redoc's own script would fetch a logo, Swagger's a badge.
"""

from __future__ import annotations

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_PAGES = frozenset({"/docs", "/redoc"})
# https://www.w3.org/TR/CSP3/ - only where from is limited; what these two scripts do within the page is theirs.
_POLICY = "default-src 'self' 'unsafe-inline' 'unsafe-eval' data: blob:"


class OwnHostOnly:
    """Middleware."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_policy(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)["Content-Security-Policy"] = _POLICY
            await send(message)

        page = scope["type"] == "http" and scope["path"] in _PAGES
        await self._app(scope, receive, send_with_policy if page else send)
