"""Rows of projects as HTML, each rendered once for all pages that are open."""

from __future__ import annotations

from image_builder.web.languages import Language
from image_builder.web.manager_models import Deployment
from image_builder.web.pages import Pages

_MOST = 2000


class Rendered:
    def __init__(self, pages: Pages) -> None:
        self._pages = pages
        self._rows: dict[tuple[Language, str], tuple[Deployment, str]] = {}

    def row(self, language: Language, row: Deployment) -> str:
        place = (language, row.key)
        known = self._rows.get(place)
        if known and known[0] is row:
            return known[1]
        if len(self._rows) >= _MOST:
            self._rows.clear()
        html = self._pages.fragment(language, "deployments_row.html", row=row)
        self._rows[place] = (row, html)
        return html
