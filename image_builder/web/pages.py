"""Templates to pages: the words, the visitor's language and colours, and what every page is given."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.requests import Request
from starlette.responses import HTMLResponse

from image_builder.clock import Clock
from image_builder.web import humane
from image_builder.web.assets import Assets
from image_builder.web.languages import Language, choose
from image_builder.web.preferences import LANGUAGE, THEME, THEMES
from image_builder.web.words import Words

_TEMPLATES = Path(__file__).with_name("templates")
_OF_TIME = {"ago": humane.ago, "age": humane.age, "lasting": humane.lasting}
_OF_SCRIPT = ("base.ago.", "base.lasted.", "base.script.")


@dataclass(frozen=True, slots=True)
class Tab:
    """An entry of the navigation: its words are `base.nav.NAME`."""

    name: str
    path: str


NAVIGATION = (Tab("deployments", "/"), Tab("builds", "/builds"), Tab("new", "/new"))


def language_of(request: Request) -> Language:
    return choose(request.cookies.get(LANGUAGE), request.headers.get("accept-language", ""))


def theme_of(request: Request) -> str:
    theme = request.cookies.get(THEME, "")
    return theme if theme in THEMES else THEMES[0]


class Pages:
    """Renders. In a template: `t("page.key", name=value)`, `ago(time)`, `lasted(seconds)`, `asset("app.css")`."""

    def __init__(self, words: Words, assets: Assets, clock: Clock) -> None:
        self._words = words
        self._clock = clock
        self._environment = Environment(
            loader=FileSystemLoader(_TEMPLATES),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._environment.globals.update(asset=assets.url, navigation=NAVIGATION, themes=THEMES)
        self._environment.filters.update(bytes=humane.size, short_digest=humane.short_digest)
        self._environment.filters.update(without_scheme=humane.without_scheme, clock=humane.clock_time)

    def page(self, request: Request, template: str, status: int = 200, **context: Any) -> HTMLResponse:
        """A whole page. `here` in the context names the tab that is marked as the present one."""
        language = language_of(request)
        back = request.url.path + (f"?{request.url.query}" if request.url.query else "")
        frame = {"theme": theme_of(request), "back": back, "here": "", "script_words": self._script_words(language)}
        frame["signed_in"] = request.scope.get("signed_in", False)
        frame |= context
        content = self.fragment(language, template, **frame)
        return HTMLResponse(content, status, headers={"Vary": "Cookie, Accept-Language", "Content-Language": language})

    def fragment(self, language: Language, template: str, **context: Any) -> str:
        """A part of a page, the same for every visitor of a language."""
        now = self._clock.now()
        t = self.words_of(language)
        told = {name: partial(words, t, now) for name, words in _OF_TIME.items()}
        tools = {"t": t, "language": language, "now": now, "lasted": partial(humane.lasted, t), **told}
        return self._environment.get_template(template).render(**tools, **context)

    def _script_words(self, language: Language) -> str:
        """JSON: what the page's script says by itself. `ago.minute` and, for one, `ago.minute_one`."""
        said = {}
        for key, entry in self._words.entries.items():
            if key.startswith(_OF_SCRIPT):
                name = key.removeprefix("base.")
                said[name] = entry[language]
                said[f"{name}_one"] = entry.get(f"{language}_one", entry[language])
        return json.dumps(said, ensure_ascii=False)

    def words_of(self, language: Language) -> Callable[..., str]:
        return partial(self._words.say, language)
