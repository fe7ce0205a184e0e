"""The log of one project: what its service writes, or what its build said."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable
from contextlib import aclosing

from markupsafe import Markup
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from image_builder.contract import BuildEvent
from image_builder.errors import BuildError
from image_builder.web.deployment_page import follow_project, mark_of
from image_builder.web.deployment_view import Visit
from image_builder.web.humane import clock_time
from image_builder.web.live import Put, Refresh, merged

_LINE = Markup('<div class="line">{}</div>')
_OF_BUILD = Markup('<div class="line {}"><span class="when">{}</span>{}</div>')
_LONGEST = 8000  # characters of a line that are shown


async def log(request: Request) -> Response:
    visit, of = Visit.of(request), _of(request)
    with visit.parts.feeds[visit.language].used():
        deployment = await visit.deployment()
    context = visit.frame(deployment, "log") | {
        "of": of,
        "live": f"{visit.path}/log/live?of={of}&shown={mark_of(deployment)}",
    }
    return visit.parts.pages.page(request, "deployment_log.html", here="deployments", **context)


async def live(request: Request) -> Response:
    visit = Visit.of(request)
    lines = _of_build(visit) if _of(request) == "build" else _of_service(visit)
    return visit.parts.streams.respond(merged(follow_project(visit, "log", request.query_params.get("shown")), lines))


def _of(request: Request) -> str:
    return "build" if request.query_params.get("of") == "build" else "service"


async def _of_service(visit: Visit) -> AsyncGenerator[Put | Refresh, None]:
    async with aclosing(visit.parts.logs[visit.language].follow(visit.key)) as found:
        async for some in found:
            if some.begins:
                yield _emptied()
            if some.lines:
                yield _appended(_LINE.format(line[:_LONGEST]) for line in some.lines)
            yield Put("log-problem", str(Markup('<p id="log-problem">{}</p>').format(some.problem)))


async def _of_build(visit: Visit) -> AsyncGenerator[Put | Refresh, None]:
    """The build of the present wish; with a new wish, that one's."""
    feed = visit.parts.feeds[visit.language]
    shown: str | None = None
    while True:
        version, row = feed.version, feed.get(visit.key)
        if row and row.build_id and row.build_id != shown:
            shown = row.build_id
            yield _emptied()
            try:
                async with aclosing(visit.parts.queue.events(shown, 0)) as events:
                    async for event in events:
                        if event and event.kind != "layer":
                            yield _appended([_build_line(event)])
            except BuildError as error:
                yield Put("log-problem", str(Markup('<p id="log-problem">{}</p>').format(error.problem.cause)))
        await feed.wait(version)


def _build_line(event: BuildEvent) -> Markup:
    return _OF_BUILD.format(event.kind, clock_time(event.time), event.message[:_LONGEST])


def _emptied() -> Put:
    return Put("log", "", "empty")


def _appended(lines: Iterable[Markup]) -> Put:
    return Put("log", "".join(lines), "append")


_ONE = "/deployments/{user}/{project}/log"
ROUTES = (Route(_ONE, log), Route(f"{_ONE}/live", live))
