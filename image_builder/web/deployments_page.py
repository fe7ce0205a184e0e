"""`/`: every project, live."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from image_builder.web.deployment_feed import DeploymentFeed
from image_builder.web.deployments_order import GROUPS, Wanted, counts, view
from image_builder.web.languages import Language
from image_builder.web.live import Put, Refresh
from image_builder.web.manager_models import Deployment
from image_builder.web.pages import language_of
from image_builder.web.parts import WebParts, parts_of

_PATIENCE = 0.8  # seconds that the first page waits for the manager; what comes later comes live
_MOST = 100  # changes that are sent one by one; with more, the page is fetched anew


async def deployments(request: Request) -> Response:
    parts, language = parts_of(request), language_of(request)
    feed, wanted = parts.feeds[language], _wanted(request)
    with feed.used():
        await feed.read(_PATIENCE)
        context = _context(feed, wanted, request.query_params.get("after", ""))
    return parts.pages.page(request, "deployments.html", here="deployments", **context)


async def live(request: Request) -> Response:
    """since: `epoch-version` of the page that asks."""
    parts, language = parts_of(request), language_of(request)
    epoch, _, version = request.query_params.get("since", "").partition("-")
    feed = parts.feeds[language]
    known = int(version) if epoch == feed.epoch and version.isdecimal() else None
    return parts.streams.respond(_changes(parts, language, _wanted(request), known))


async def _changes(
    parts: WebParts, language: Language, wanted: Wanted, known: int | None
) -> AsyncGenerator[Put | Refresh, None]:
    feed = parts.feeds[language]
    with feed.used():
        if known is None:
            known = feed.version
            yield Refresh()
        while True:
            await feed.wait(known)
            rows, known = feed.changed_since(known), feed.version
            if len(rows) > _MOST:
                yield Refresh()
            else:
                for row in reversed(rows):
                    yield _put(parts, language, wanted, row)
                yield _summary(parts, language, wanted)


def _put(parts: WebParts, language: Language, wanted: Wanted, row: Deployment) -> Put:
    """What the visitor sees is changed in its place; what is new to him comes on top, if he asked for its kind."""
    html = parts.rendered.row(language, row)
    return Put(row_id(row), html, "first" if wanted.fits(row) else "replace", "rows")


def _summary(parts: WebParts, language: Language, wanted: Wanted) -> Put:
    feed = parts.feeds[language]

    def render() -> str:
        told = {"counts": counts(each for each in feed.deployments if wanted.mentions(each))}
        return parts.pages.fragment(language, "deployments_summary.html", **_frame(feed, wanted), **told)

    return Put("summary", parts.rendered.once((language, wanted), feed.version, render))


def _context(feed: DeploymentFeed, wanted: Wanted, after: str) -> dict[str, Any]:
    shown = view(feed.deployments, wanted, after)
    since = f"{feed.epoch}-{feed.version}"
    return _frame(feed, wanted) | {
        "rows": shown.rows,
        "counts": shown.counts,
        "more": f"/?{_query(wanted, after=shown.more)}" if shown.more else "",
        "live": f"/deployments/live?{_query(wanted, since=since)}",
    }


def _frame(feed: DeploymentFeed, wanted: Wanted) -> dict[str, Any]:
    """What the summary is made of, besides the counts."""
    links = {group: f"/?{query}" if (query := _query(Wanted(group, wanted.text))) else "/" for group in ("", *GROUPS)}
    return {"wanted": wanted, "links": links, "problem": feed.problem, "whole": feed.is_whole, "row_id": row_id}


def row_id(row: Deployment) -> str:
    """The id of a project's row in the page; `/` is in no part of a key."""
    return f"project-{row.user_id}/{row.project_id}"


def _wanted(request: Request) -> Wanted:
    group = request.query_params.get("status", "")
    return Wanted(group if group in GROUPS else "", request.query_params.get("q", "")[:200])


def _query(wanted: Wanted, **more: str) -> str:
    asked = {"status": wanted.group, "q": wanted.text, **more}
    return urlencode({name: value for name, value in asked.items() if value})


ROUTES = (Route("/", deployments), Route("/deployments/live", live))
