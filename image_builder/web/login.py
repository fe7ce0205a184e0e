"""Who may see the GUI: with an API_TOKEN, who has logged in with it.

The visitor's cookie is a signed session, never the token: it ends by itself, when he logs out, and with the token.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import secrets
from collections import deque
from typing import Any
from urllib.parse import quote

from itsdangerous import BadSignature, TimestampSigner
from starlette.datastructures import Headers
from starlette.requests import Request, cookie_parser
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from image_builder.clock import Clock
from image_builder.web.forms import read_form
from image_builder.web.parts import parts_of
from image_builder.web.preferences import local_path

log = logging.getLogger(__name__)

COOKIE = "cloud_deploy_session"
LIFETIME = 12 * 3600
"""Seconds."""
_WINDOW = 60.0
_TRIES, _TRIES_OF_ALL = 5, 50
"""Wrong tokens within the window: of one address, and of all together, for an address can be made up."""
_ADDRESSES = 1000
_OPEN = ("/login", "/preferences", "/healthz")
SIGNED_IN = "signed_in"
"""In the scope of a request: whether there is anybody to log out."""


class Sessions:
    def __init__(self, token: str, clock: Clock) -> None:
        self._token = token.encode()
        self._clock = clock
        self._signer = _Signer(hashlib.sha256(b"a session of the GUI:" + self._token).digest(), clock)
        self._ended: dict[str, float] = {}

    def is_token(self, given: str) -> bool:
        """In constant time: else the answer's delay would tell how much of a guess is right."""
        return hmac.compare_digest(given.strip().encode(), self._token)

    def begin(self) -> str:
        """A cookie's value."""
        return self._signer.sign(secrets.token_urlsafe(16)).decode()

    def holds(self, cookie: str) -> bool:
        try:
            self._signer.unsign(cookie, max_age=LIFETIME)
        except BadSignature:  # SignatureExpired is one
            return False
        return cookie not in self._ended

    def end(self, cookie: str) -> None:
        """Else whoever has copied the cookie would stay logged in."""
        now = self._clock.now()
        self._ended = {each: until for each, until in self._ended.items() if until > now}
        if self.holds(cookie):
            self._ended[cookie] = now + LIFETIME + 1


class _Signer(TimestampSigner):
    def __init__(self, key: bytes, clock: Clock) -> None:
        super().__init__(key, digest_method=hashlib.sha256)
        self._clock = clock

    def get_timestamp(self) -> int:
        return int(self._clock.now())


class Attempts:
    """Wrong tokens of late, by the visitor's address."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._of: dict[str, deque[float]] = {}
        self._all: deque[float] = deque(maxlen=_TRIES_OF_ALL)

    def wait(self, address: str) -> float:
        """Seconds until this address may try again; 0: now."""
        mine = self._of.get(address)
        ends = [0.0]
        if mine and len(mine) == _TRIES:
            ends.append(mine[0] + _WINDOW)
        if len(self._all) == _TRIES_OF_ALL:
            ends.append(self._all[0] + _WINDOW)
        return max(0.0, max(ends) - self._clock.now())

    def failed(self, address: str) -> None:
        while len(self._of) >= _ADDRESSES:
            del self._of[next(iter(self._of))]
        self._of.setdefault(address, deque(maxlen=_TRIES)).append(self._clock.now())
        self._all.append(self._clock.now())


class LoginNeeded:
    """ASGI middleware: who is not logged in sees the login page, and what belongs to it."""

    def __init__(self, app: ASGIApp, sessions: Sessions) -> None:
        self._app = app
        self._sessions = sessions

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            headers = Headers(scope=scope)
            scope[SIGNED_IN] = self._sessions.holds(cookie_parser(headers.get("cookie", "")).get(COOKIE, ""))
            if not scope[SIGNED_IN] and not _is_open(scope["path"]):
                await _to_login(scope, headers)(scope, receive, send)
                return
        await self._app(scope, receive, send)


class Login:
    """The login page and the way out."""

    def __init__(self, sessions: Sessions, attempts: Attempts) -> None:
        self._sessions = sessions
        self._attempts = attempts

    @property
    def routes(self) -> tuple[Route, ...]:
        return (
            Route("/login", self.show, methods=["GET"]),
            Route("/login", self.take, methods=["POST"]),
            Route("/logout", self.leave, methods=["POST"]),
        )

    async def show(self, request: Request) -> Response:
        return _page(request, request.query_params.get("next", "/"))

    async def take(self, request: Request) -> Response:
        form, address = await read_form(request), request.client.host if request.client else ""
        ahead = local_path(form.get("next", "/"))
        if seconds := self._attempts.wait(address):
            response = _page(request, ahead, 429, wait=int(seconds) + 1)
            response.headers["Retry-After"] = str(int(seconds) + 1)
            return response
        if not self._sessions.is_token(form.get("token", "")):
            self._attempts.failed(address)
            log.warning("GUI: a wrong token from %s", address)
            return _page(request, ahead, 403, wrong=True)
        response = RedirectResponse(ahead, 303)
        response.set_cookie(COOKIE, self._sessions.begin(), max_age=LIFETIME, **_guards(request))
        return response

    async def leave(self, request: Request) -> Response:
        self._sessions.end(request.cookies.get(COOKIE, ""))
        response = RedirectResponse("/login", 303)
        response.delete_cookie(COOKIE, **_guards(request))
        return response


def _page(request: Request, ahead: str, status: int = 200, *, wrong: bool = False, wait: int = 0) -> Response:
    ahead = local_path(ahead)
    context = {"navigation": (), "back": f"/login?next={quote(ahead)}"}
    return parts_of(request).pages.page(request, "login.html", status, ahead=ahead, wrong=wrong, wait=wait, **context)


def _guards(request: Request) -> dict[str, Any]:
    """https://developer.mozilla.org/docs/Web/Security/Practical_implementation_guides/Cookies"""
    return {"httponly": True, "samesite": "strict", "secure": request.url.scheme == "https"}


def _is_open(path: str) -> bool:
    return path in _OPEN or path.startswith("/static/")


def _to_login(scope: Scope, headers: Headers) -> Response:
    """A page leads to the login and back; a stream or a button is told that its visitor has to log in."""
    if scope["method"] not in ("GET", "HEAD") or "text/html" not in headers.get("accept", "text/html"):
        return PlainTextResponse("error: log in first, at /login\n", 401)
    ahead = scope["path"] + (f"?{scope['query_string'].decode('latin-1')}" if scope["query_string"] else "")
    return RedirectResponse(f"/login?next={quote(ahead)}", 303)
