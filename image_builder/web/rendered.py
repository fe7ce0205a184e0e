"""Parts of pages as HTML, each rendered once for all pages that are open."""

from __future__ import annotations

from collections.abc import Callable, Hashable

from image_builder.web.languages import Language
from image_builder.web.manager_models import Deployment
from image_builder.web.pages import Pages

_MOST = 2000


class Rendered:
    def __init__(self, pages: Pages) -> None:
        self._pages = pages
        self._known: dict[Hashable, tuple[object, str]] = {}

    def row(self, language: Language, row: Deployment) -> str:
        """The row of a project in the list of all."""
        return self.once(
            (language, row.key), row, lambda: self._pages.fragment(language, "deployments_row.html", row=row)
        )

    def once(self, what: Hashable, version: object, render: Callable[[], str]) -> str:
        """What was rendered of this version, else what `render` makes of it now."""
        known = self._known.get(what)
        if known and known[0] == version:
            return known[1]
        if len(self._known) >= _MOST:
            self._known.clear()
        html = render()
        self._known[what] = (version, html)
        return html
