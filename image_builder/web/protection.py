"""What is true of every answer of the GUI: where its parts may come from, and who may ask for changes."""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

# https://www.w3.org/TR/CSP3/ - nothing inline, nothing from elsewhere, and no page of others around ours.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "font-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
_HEADERS = {
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Frame-Options": "DENY",
}
_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})


class Protection:
    """ASGI middleware."""

    def __init__(self, app: ASGIApp, hosts: tuple[str, ...]) -> None:
        """hosts: names, besides those that `is_own_host` knows, under which the GUI is reached."""
        self._app = app
        self._hosts = hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
                headers.setdefault("Cache-Control", "no-store")
            await send(message)

        if scope["type"] == "http" and (refusal := self._refusal(scope["method"], Headers(scope=scope))):
            await PlainTextResponse(refusal, 403)(scope, receive, guarded)
            return
        await self._app(scope, receive, guarded)

    def _refusal(self, method: str, headers: Headers) -> str:
        host = headers.get("host", "")
        if not is_own_host(host, self._hosts):
            return f"error: {host[:100]!r} is not a name of this GUI. Add it to WEB_HOSTS if it is.\n"
        if method not in _SAFE and not is_same_origin(headers):
            return "error: a page of another origin asked for this. Use the buttons of the GUI itself.\n"
        return ""


def is_own_host(host: str, more: tuple[str, ...]) -> bool:
    """Whether no stranger can own this name: else his page, resolved to this address, would be of our origin.

    That is an address, a name without a dot, or one of `more`. https://en.wikipedia.org/wiki/DNS_rebinding
    """
    name = (urlsplit(f"//{host}").hostname or "").rstrip(".")
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return name in more or ("." not in name and name != "") or name.endswith(".localhost")
    return True


def is_same_origin(headers: Headers) -> bool:
    """Whether one of our own pages sent this, as the browser says.

    https://www.w3.org/TR/fetch-metadata/#sec-fetch-site-header; browsers without it, or without TLS and a loopback
    address, send `Origin`. A program that sends neither is no browser, and carries nobody's cookies by mistake.
    """
    site, origin = headers.get("sec-fetch-site"), headers.get("origin")
    if site is not None:
        return site == "same-origin"
    return origin is None or urlsplit(origin).netloc == headers.get("host")
