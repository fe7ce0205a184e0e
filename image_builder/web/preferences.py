"""Language and colours, kept in the visitor's cookies."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from image_builder.web.forms import read_form
from image_builder.web.languages import LANGUAGES

LANGUAGE, THEME = "language", "theme"
THEMES = ("system", "light", "dark")
_ALLOWED: dict[str, tuple[str, ...]] = {LANGUAGE: LANGUAGES, THEME: THEMES}
_YEAR = 365 * 24 * 3600


async def save_preferences(request: Request) -> Response:
    """POST /preferences: keeps what was chosen, and leads back to the page."""
    form = await read_form(request)
    response = RedirectResponse(local_path(form.get("back", "/")), 303)
    for name, allowed in _ALLOWED.items():
        if form.get(name) in allowed:
            response.set_cookie(name, form[name], max_age=_YEAR, samesite="lax", httponly=True)
    return response


def local_path(address: str) -> str:
    """The path of an address on this very host; `/` for any other, so that no form can lead away."""
    if not address.startswith("/") or address.startswith(("//", "/\\")) or not address.isprintable():
        return "/"
    return address
