"""The pages of one project: what happened and how it is, its deployment.yaml, its revisions."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from itertools import pairwise
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from image_builder.web.deployment_view import Visit, build_of, changes_of, overview
from image_builder.web.live import Put, Refresh, merged
from image_builder.web.manager_models import Deployment, Phase
from image_builder.web.problems import ManagerAway, PageProblem
from image_builder.web.yaml_view import lines_of

_BUILD_PERIOD = 0.5
_MOST_CHAPTERS = 30


async def show(request: Request) -> Response:
    visit = Visit.of(request)
    with visit.parts.feeds[visit.language].used():
        deployment = await visit.deployment()
        context = await overview(visit, deployment) if deployment else {}
    return _page(request, visit, deployment, "overview", **_shortened(context))


async def yaml(request: Request) -> Response:
    """`?refused`: a start was refused because of what is wrong here."""
    visit = Visit.of(request)
    deployment = await visit.deployment()
    file, problem = None, None
    try:
        file = await visit.parts.manager.file(visit.language, visit.key)
    except ManagerAway:
        raise
    except PageProblem as error:
        problem = error.problem
    lines = lines_of(file) if file else ()
    refused = "refused" in request.query_params
    return _page(request, visit, deployment, "yaml", file=file, lines=lines, refused=refused, problem=problem)


async def revisions(request: Request) -> Response:
    visit = Visit.of(request)
    with visit.parts.feeds[visit.language].used():
        deployment = await visit.deployment()
        context = await _revisions(visit, deployment) if deployment else {"revisions": (), "changes": {}}
    return _page(request, visit, deployment, "revisions", **context)


async def _revisions(visit: Visit, deployment: Deployment) -> dict[str, Any]:
    """changes: of each revision, what it changed of the one before it."""
    found = (await visit.story(deployment)).revisions
    changes = {one.revision: changes_of(one, before) for one, before in pairwise(found)}
    return {"revisions": found, "changes": changes}


def _page(request: Request, visit: Visit, deployment: Deployment | None, tab: str, **context: Any) -> Response:
    frame = visit.frame(deployment, tab)
    live = f"{visit.path}/live?tab={tab}&shown={mark_of(deployment)}"
    return visit.parts.pages.page(request, f"deployment_{tab}.html", here="deployments", live=live, **frame, **context)


def mark_of(row: Deployment | None) -> str:
    """Of what a page shows, so that its stream sends what came between the two."""
    return str(row.updated) if row else ""


async def live(request: Request) -> Response:
    visit, tab = Visit.of(request), request.query_params.get("tab", "")
    sources = [follow_project(visit, tab, request.query_params.get("shown"))]
    if tab == "overview":
        sources.append(_follow_build(visit))
    return visit.parts.streams.respond(merged(*sources))


async def follow_project(visit: Visit, tab: str, shown: str | None = None) -> AsyncGenerator[Put | Refresh, None]:
    """The head of the page, and what its tab shows, whenever something changed; shown: what the page says already."""
    feed = visit.parts.feeds[visit.language]
    seen: object = None
    with feed.used():
        while True:
            version, row = feed.version, feed.get(visit.key)
            state = (row, feed.problem)
            late = seen is None and shown is not None and shown != mark_of(row)
            if late or (seen is not None and seen != state):
                async for change in _changed(visit, tab, row):
                    yield change
            seen = state
            await feed.wait(version)


async def _changed(visit: Visit, tab: str, row: Deployment | None) -> AsyncGenerator[Put | Refresh, None]:
    """A project that was not there before has another page altogether."""
    try:
        if row is None:
            yield Refresh()
            return
        frame = visit.frame(row, tab)
        yield _put(visit, "head", **frame)
        if tab == "overview":
            yield _put(visit, "overview", **frame, **_shortened(await overview(visit, row)))
        if tab == "revisions":
            yield _put(visit, "revisions", **frame, **await _revisions(visit, row))
    except PageProblem:  # the head says that the manager is away, once the feed has noticed
        return


async def _follow_build(visit: Visit) -> AsyncGenerator[Put | Refresh, None]:
    """While the image is built: how far each layer is."""
    feed = visit.parts.feeds[visit.language]
    shown: object = None
    while True:
        version, row = feed.version, feed.get(visit.key)
        if row is None or row.phase is not Phase.BUILDING:
            await feed.wait(version)
            continue
        build = await build_of(visit, row)
        if build and build != shown:
            shown = build
            yield _put(visit, "build", build=build, row=row)
        await visit.parts.clock.sleep(_BUILD_PERIOD)


def _put(visit: Visit, name: str, **context: Any) -> Put:
    return Put(name, visit.parts.pages.fragment(visit.language, f"deployment_part_{name}.html", **context))


def _shortened(context: dict[str, Any]) -> dict[str, Any]:
    return context | {"chapters": context["chapters"][:_MOST_CHAPTERS]} if context else context


_ONE = "/deployments/{user}/{project}"
ROUTES = (
    Route(_ONE, show),
    Route(f"{_ONE}/live", live),
    Route(f"{_ONE}/yaml", yaml),
    Route(f"{_ONE}/revisions", revisions),
)
