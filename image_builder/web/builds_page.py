"""`/builds`: what is built and what was, live; `/builds/ID`: one of them."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress
from typing import Any

from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import Route

from image_builder import sbom
from image_builder.build_context import context_of, context_tar
from image_builder.contents import ImageFacts
from image_builder.contents_store import ContentsStore
from image_builder.contract import RESTING, BuildEvent, BuildState, BuildStatus
from image_builder.errors import BuildError
from image_builder.problem_words.speech import speak
from image_builder.web.build_costs import sentences, steps_of
from image_builder.web.image_picture import how_of, picture
from image_builder.web.languages import Language
from image_builder.web.live import Put, Refresh
from image_builder.web.pages import language_of
from image_builder.web.parts import WebParts, parts_of

_SHOWN = 100
_PERIOD = 0.5  # seconds between two looks
_QUICK = 10  # builds that may come and go between two looks, and yet are shown
_WORDS_SHOWN = 2000  # lines of a build's log
_QUIET = 0.05  # seconds without a line after which the history of a build that runs is read
_PROJECT = re.compile(r"([A-Za-z0-9_-][A-Za-z0-9._-]*)/([A-Za-z0-9_-][A-Za-z0-9._-]*)")
_OF_COMMAND_LINE = "cli/"
_IN_WORK = (BuildState.RUNNING, BuildState.QUEUED)


async def builds(request: Request) -> Response:
    parts = parts_of(request)
    rows, told = await _rows(parts), speak(language_of(request)).problem
    return parts.pages.page(request, "builds.html", here="builds", rows=rows, told=told, project_of=project_of)


async def builds_live(request: Request) -> Response:
    parts, language = parts_of(request), language_of(request)
    return parts.streams.respond(_list_changes(parts, language))


async def build(request: Request) -> Response:
    parts, language = parts_of(request), language_of(request)
    status = await _status(request)
    lines = await _history(parts, status.id)
    context = await _context(parts, language, status)
    after = lines[-1].sequence if lines else 0
    shown = [line for line in lines if line.kind != "layer"][-_WORDS_SHOWN:]
    return parts.pages.page(
        request, "build.html", here="builds", lines=shown, after=after, project_of=project_of, **context
    )


async def build_live(request: Request) -> Response:
    parts, language = parts_of(request), language_of(request)
    status = await _status(request)
    after = request.query_params.get("after", "0")[:18]
    return parts.streams.respond(_changes(parts, language, status, int(after) if after.isdecimal() else 0))


async def cancel(request: Request) -> Response:
    status = await _status(request)
    await parts_of(request).queue.release(status.id, None)
    return RedirectResponse(f"/builds/{status.id}", 303)


async def dockerfile(request: Request) -> Response:
    """The equivalent Dockerfile; with `format=tar` its whole build context."""
    parts, status = parts_of(request), await _status(request)
    contents = ContentsStore(parts.layout)
    context = await asyncio.to_thread(context_of, status, parts.layout, contents)
    if request.query_params.get("format") == "tar":
        return StreamingResponse(
            context_tar(context), media_type="application/x-tar", headers=_attached(f"{status.id}.tar")
        )
    return PlainTextResponse(context.dockerfile, headers=_attached("Dockerfile"))


async def bill(request: Request) -> Response:
    """The bill of materials of a build's image."""
    parts, status = parts_of(request), await _status(request)
    digest = status.image.digest if status.image else ""
    text = await asyncio.to_thread(lambda: sbom.cyclonedx(ContentsStore(parts.layout).facts(digest)))
    return Response(text, media_type=sbom.MEDIA_TYPE, headers=_attached(f"{status.id}.cdx.json"))


# --- what the pages show ------------------------------------------------------------------------------------------


async def _rows(parts: WebParts) -> list[BuildStatus]:
    """Those in work first, then the newest."""
    found = await parts.queue.newest(None, _SHOWN)
    return sorted(found, key=lambda status: status.state.done)


async def _status(request: Request) -> BuildStatus:
    """Raises BuildNotFound."""
    return await parts_of(request).queue.status(request.path_params["id"])


async def _context(parts: WebParts, language: Language, status: BuildStatus) -> dict[str, Any]:
    """Everything of a build's page but its log."""
    facts = await _facts(parts, status)
    return {
        "build": status,
        "problem": speak(language).problem(status.problem) if status.problem else None,
        "facts": facts,
        "costs": sentences(parts.pages.words_of(language), status),
        "steps": steps_of(status.summary) if status.summary else (),
        "dockerfile": await _dockerfile(parts, status) if facts else None,
        **_layers(status),
    }


def _layers(status: BuildStatus) -> dict[str, Any]:
    """What the picture and the table of layers are made of."""
    wide, narrow = picture(status.layers, 1000, 300), picture(status.layers, 340, 380)
    kinds = [how for how in ("reused", "mounted", "built", "uploaded") if how in map(how_of, status.layers)]
    whole = status.state is BuildState.SUCCEEDED
    pictures = {"wide": wide, "narrow": narrow} if whole and wide.boxes else {}
    return {"pictures": pictures, "kinds": kinds, "how_of": how_of, "resting": RESTING}


async def _facts(parts: WebParts, status: BuildStatus) -> ImageFacts | None:
    """None where the image is not there, or not any more."""
    if status.image is None:
        return None
    try:
        return await asyncio.to_thread(ContentsStore(parts.layout).facts, status.image.digest)
    except BuildError:
        return None


async def _dockerfile(parts: WebParts, status: BuildStatus) -> str | None:
    """None where no Dockerfile can say it."""
    try:
        return (await asyncio.to_thread(context_of, status, parts.layout, ContentsStore(parts.layout))).dockerfile
    except (BuildError, OSError):
        return None


async def _history(parts: WebParts, build_id: str) -> list[BuildEvent]:
    """What has happened until now."""
    lines: list[BuildEvent] = []
    async with aclosing(parts.queue.events(build_id, 0, quiet=_QUIET)) as events:
        async for event in events:
            if event is None:
                break
            lines.append(event)
    return lines


# --- what changes while they are looked at ------------------------------------------------------------------------


async def _list_changes(parts: WebParts, language: Language) -> AsyncGenerator[Put | Refresh, None]:
    """Rows in work, and each once more when it is done; also those that come and go between two looks."""
    known: dict[str, BuildStatus] = {}
    while True:
        found = [*await parts.queue.newest(None, _QUICK)]
        for state in _IN_WORK:
            found += await parts.queue.newest(state, _SHOWN)
        rows = {row.id: row for row in sorted(found, key=lambda row: row.created)}
        for gone in [key for key in known if key not in rows]:
            del known[gone]
            with suppress(BuildError):  # it was forgotten
                yield _row_put(parts, language, await parts.queue.status(gone))
        for key, row in rows.items():
            if known.get(key) != row:
                known[key] = row
                yield _row_put(parts, language, row)
        await parts.clock.sleep(_PERIOD)


def _row_put(parts: WebParts, language: Language, row: BuildStatus) -> Put:
    told = speak(language).problem
    html = parts.pages.fragment(language, "builds_row.html", row=row, told=told, project_of=project_of)
    return Put(f"build-{row.id}", html, "first", "rows")


async def _changes(
    parts: WebParts, language: Language, status: BuildStatus, after: int
) -> AsyncGenerator[Put | Refresh, None]:
    """Layers as they are, at most once a period; lines of the log as they come; the whole page when it is done."""
    if status.state.done:  # meanwhile
        yield Refresh()
        return
    shown = 0.0
    async with aclosing(parts.queue.events(status.id, after, quiet=_PERIOD)) as events:
        async for event in events:
            if event is not None and event.kind in ("step", "log"):
                html = parts.pages.fragment(language, "build_line.html", line=event, build=status)
                yield Put(f"line-{event.sequence}", html, "last", "log")
            now = parts.clock.now()
            if now - shown >= _PERIOD:
                shown = now
                status = await parts.queue.status(status.id)
                yield Put(
                    "layers", parts.pages.fragment(language, "build_layers.html", build=status, **_layers(status))
                )
                yield Put(
                    "head", parts.pages.fragment(language, "build_head.html", build=status, project_of=project_of)
                )
    yield Refresh()


def project_of(owner: str) -> str:
    """The address of the deployment that asked for a build; empty if it was asked for by the command line."""
    match = _PROJECT.fullmatch(owner)
    return f"/deployments/{owner}" if match and not owner.startswith(_OF_COMMAND_LINE) else ""


def _attached(name: str) -> dict[str, str]:
    return {"Content-Disposition": f'attachment; filename="{name}"', "Cache-Control": "no-store"}


ROUTES = (
    Route("/builds", builds),
    Route("/builds/live", builds_live),
    Route("/builds/{id}", build),
    Route("/builds/{id}/live", build_live),
    Route("/builds/{id}/cancel", cancel, methods=["POST"]),
    Route("/builds/{id}/dockerfile", dockerfile),
    Route("/builds/{id}/sbom", bill),
)
