"""Who may ask: everybody who reaches the port, or, with an API_TOKEN, who has it.

It comes as `Authorization: Bearer TOKEN` (https://www.rfc-editor.org/rfc/rfc6750), or as the password of Basic, with
any name, for browsers on /docs.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import ipaddress
from collections.abc import Callable

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from cloud_manager.errors import DeployError

_REALM = 'realm="Cloud Deploy"'

Refuse = Callable[[Request, DeployError], Response]


class OpenToAll(DeployError):
    """Other machines would be let in without a token, and nobody has said that they may."""

    code = "open_to_all"


class Unauthorized(DeployError):
    code = "unauthorized"
    http_status = 401


def check_reach(setting: str, host: str, token: str, *, allowed: bool) -> bool:
    """Whether it is to be told that other machines need no token here. setting: the name of what holds `host`.

    Raises:
        OpenToAll: they need none, and ALLOW_NO_TOKEN does not say that this is meant.
    """
    if token or _is_loopback(host):
        return False
    if not allowed:
        raise OpenToAll(
            f"{setting}={host} lets other machines in, and there is no API_TOKEN",
            "Set API_TOKEN or API_TOKEN_FILE, or listen on 127.0.0.1; ALLOW_NO_TOKEN=1 if others are kept out anyhow",
        )
    return True


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class Access:
    """ASGI middleware. is_open: what needs no token."""

    def __init__(self, app: ASGIApp, *, token: str, is_open: Callable[[Scope], bool], refuse: Refuse) -> None:
        self._app = app
        self._token = token.encode()
        self._is_open = is_open
        self._refuse = refuse

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and not self._is_open(scope):
            given = _given(Headers(scope=scope).get("authorization", ""))
            # In constant time: else the answer's delay would tell how much of a guess is right.
            if not hmac.compare_digest(given, self._token):
                await self._answer(Request(scope), given)(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _answer(self, request: Request, given: bytes) -> Response:
        cause = "the token that was sent is not the one of this installation" if given else "this call needs a token"
        fix = "Send `Authorization: Bearer TOKEN`; cloud-deploy takes it from API_TOKEN or API_TOKEN_FILE"
        response = self._refuse(request, Unauthorized(cause, fix))
        for scheme in ("Bearer", "Basic"):
            response.headers.append("WWW-Authenticate", f"{scheme} {_REALM}")
        return response


def _given(header: str) -> bytes:
    """The token in a header; empty if there is none."""
    scheme, _, value = header.strip().partition(" ")
    if scheme.lower() == "bearer":
        return value.strip().encode()
    if scheme.lower() == "basic":
        try:
            return base64.b64decode(value.strip(), validate=True).partition(b":")[2]
        except binascii.Error:
            return b""
    return b""
