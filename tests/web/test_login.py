"""Where API_TOKEN is set, the GUI is for those who have it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from types import SimpleNamespace

import httpx
import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from image_builder.web.assets import Assets
from image_builder.web.login import COOKIE, LIFETIME, Attempts, Login, LoginNeeded, Sessions
from image_builder.web.pages import Pages
from image_builder.web.words import read_words
from tests.fakes.clock import ManualClock

TOKEN = "correct-horse-battery-staple"
HTML = {"Accept": "text/html,*/*"}


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def visitor(clock: ManualClock) -> AsyncIterator[httpx.AsyncClient]:
    async def secret(_request: Request) -> Response:
        return PlainTextResponse("secret")

    sessions = Sessions(TOKEN, clock)
    routes = [
        *Login(sessions, Attempts(clock)).routes,
        Route("/", secret),
        Route("/builds", secret),
        Route("/stop", secret, methods=["POST"]),
    ]
    app = Starlette(routes=routes, middleware=[Middleware(LoginNeeded, sessions=sessions)])
    app.state.parts = SimpleNamespace(pages=Pages(read_words(), Assets(), clock))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://gui", headers=HTML) as visitor:
        yield visitor


async def enter(visitor: httpx.AsyncClient, token: str = TOKEN, ahead: str = "/builds?state=failed") -> httpx.Response:
    return await visitor.post("/login", data={"token": token, "next": ahead})


async def test_a_stranger_is_led_to_the_login_and_then_to_where_he_was_going(visitor: httpx.AsyncClient) -> None:
    led = await visitor.get("/builds?state=failed")
    assert (led.status_code, led.headers["location"]) == (303, "/login?next=/builds%3Fstate%3Dfailed")
    page = await visitor.get(led.headers["location"])
    assert page.status_code == 200
    assert 'value="/builds?state=failed"' in page.text
    entered = await enter(visitor)
    assert (entered.status_code, entered.headers["location"]) == (303, "/builds?state=failed")
    assert (await visitor.get("/builds")).text == "secret"


async def test_the_cookie_is_out_of_reach_and_holds_no_token(visitor: httpx.AsyncClient) -> None:
    """A script in a page must not read it, a foreign page not send it, and a copy of it not tell the token."""
    said = (await enter(visitor)).headers["set-cookie"]
    assert said.startswith(f"{COOKIE}=")
    assert {"HttpOnly", "Path=/", "SameSite=strict", f"Max-Age={LIFETIME}"} <= set(said.split("; "))
    assert TOKEN not in said
    over_tls = await visitor.post("https://gui/login", data={"token": TOKEN})
    assert "Secure" in over_tls.headers["set-cookie"].split("; ")


@pytest.mark.parametrize("token", ["", "wrong", TOKEN + "x", TOKEN[:-1], "é" * 20])
async def test_what_is_nearly_the_token_opens_nothing(visitor: httpx.AsyncClient, token: str) -> None:
    answer = await enter(visitor, token)
    assert answer.status_code == 403
    assert "set-cookie" not in answer.headers
    assert "not the token" in answer.text
    assert not token or token not in answer.text
    assert (await visitor.get("/")).status_code == 303


async def test_streams_and_buttons_of_a_stranger_are_refused(visitor: httpx.AsyncClient) -> None:
    """A redirect would be followed by a script, and look as if all were well."""
    assert (await visitor.post("/stop")).status_code == 401
    assert (await visitor.get("/", headers={"Accept": "text/event-stream"})).status_code == 401


async def test_a_session_ends_by_itself(visitor: httpx.AsyncClient, clock: ManualClock) -> None:
    await enter(visitor)
    clock.advance(LIFETIME - 1)
    assert (await visitor.get("/")).status_code == 200
    clock.advance(3)
    assert (await visitor.get("/")).status_code == 303


async def test_who_logs_out_is_out_also_with_a_copy_of_the_cookie(visitor: httpx.AsyncClient) -> None:
    await enter(visitor)
    copied = visitor.cookies[COOKIE]
    left = await visitor.post("/logout")
    assert (left.status_code, left.headers["location"]) == (303, "/login")
    visitor.cookies.clear()
    assert (await visitor.get("/", headers=HTML | {"Cookie": f"{COOKIE}={copied}"})).status_code == 303


def test_a_new_token_ends_the_sessions_of_the_old_one(clock: ManualClock) -> None:
    """It is changed when somebody has it who should not."""
    cookie = Sessions(TOKEN, clock).begin()
    assert Sessions(TOKEN, clock).holds(cookie), "after a restart nobody has to log in again"
    assert not Sessions(TOKEN + "2", clock).holds(cookie)
    assert not Sessions(TOKEN, clock).holds(cookie[:-1] + ("A" if cookie[-1] != "A" else "B"))


async def test_tokens_cannot_be_tried_without_end(visitor: httpx.AsyncClient, clock: ManualClock) -> None:
    for _ in range(5):
        assert (await enter(visitor, "wrong")).status_code == 403
    refused = await enter(visitor)
    assert (refused.status_code, refused.headers["retry-after"]) == (429, "61")
    assert "Try again in 61 seconds" in refused.text
    clock.advance(61)
    assert (await enter(visitor)).status_code == 303


def test_made_up_addresses_do_not_help(clock: ManualClock) -> None:
    attempts = Attempts(clock)
    for number in range(50):
        assert not attempts.wait(f"10.0.0.{number}")
        attempts.failed(f"10.0.0.{number}")
    assert attempts.wait("10.0.1.1") > 0


@pytest.mark.parametrize(
    "ahead", ["//evil.example", "https://evil.example", "/\\evil.example", "/\t/evil.example", "//[", "javascript:x"]
)
async def test_the_login_leads_to_no_other_host(visitor: httpx.AsyncClient, ahead: str) -> None:
    """Else a link to our login would end on a page that looks like ours."""
    assert (await enter(visitor, ahead=ahead)).headers["location"] == "/"
