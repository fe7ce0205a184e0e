"""`/new`: a form that writes a deployment.yaml, judged while one types; `/deployments/U/P/edit`: the text itself."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from image_builder.contract import BuildRequest, Requirement
from image_builder.errors import BuildError
from image_builder.size_estimate import Estimate
from image_builder.web import draft_yaml
from image_builder.web.deployment_view import Visit
from image_builder.web.forms import read_form
from image_builder.web.languages import Language
from image_builder.web.manager_models import ProjectFile, Targets, Verdict
from image_builder.web.pages import language_of
from image_builder.web.parts import WebParts, parts_of
from image_builder.web.problems import PageProblem
from image_builder.web.yaml_view import lines_of

_ID = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}")
_NO_SUCH_PROJECT = 404
_LONGEST_TEXT = 200_000
PYTHONS = ("3.13", "3.12", "3.11", "3.10", "3.9")


@dataclass(frozen=True, slots=True)
class Draft:
    """What a visitor has typed. text: of the file; by_hand: it was written as such, not in the form's fields."""

    values: Mapping[str, str]
    text: str
    by_hand: bool

    @classmethod
    def of(cls, values: Mapping[str, str]) -> Draft:
        by_hand = values.get("mode") == "yaml"
        text = values.get("text", "")[:_LONGEST_TEXT] if by_hand else draft_yaml.yaml_of(values)
        return cls(values, text.replace("\r\n", "\n"), by_hand)

    @property
    def key(self) -> str | None:
        """`7/42`, once both ids are right."""
        user, project = self.values.get("user", "").strip(), self.values.get("project", "").strip()
        return f"{user}/{project}" if _ID.fullmatch(user) and _ID.fullmatch(project) else None


async def new(request: Request) -> Response:
    """The empty form; `user` and `project` may be given."""
    parts, language = parts_of(request), language_of(request)
    targets = await parts.manager.targets(language)
    given = {name: request.query_params.get(name, "")[:64] for name in ("user", "project")}
    first = next(iter(targets.targets), "docker")
    return await _page(request, Draft.of({**draft_yaml.START, "target": first, **given}), targets=targets)


async def edit(request: Request) -> Response:
    """A project's file as text; an empty one where there is none yet."""
    visit = Visit.of(request)
    try:
        text = (await visit.parts.manager.file(visit.language, visit.key)).text
    except PageProblem as error:
        if error.status != _NO_SUCH_PROJECT:
            raise
        text = ""
    user, _, project = visit.key.partition("/")
    return await _page(request, Draft.of({"mode": "yaml", "text": text, "user": user, "project": project}))


async def save(request: Request) -> Response:
    """action: `yaml` goes on with the text; `save` writes it; `start` also starts it."""
    parts, language = parts_of(request), language_of(request)
    values = await read_form(request)
    draft, action = Draft.of(values), values.get("action", "save")
    if action == "yaml":
        return await _page(request, Draft.of({**values, "mode": "yaml", "text": draft.text}))
    if draft.key is None:
        return await _page(request, draft, status=422)
    try:
        await parts.manager.write(language, draft.key, draft.text)
    except PageProblem as error:
        return await _page(request, draft, problem=error, status=error.status)
    if action != "start":
        return RedirectResponse(f"/deployments/{draft.key}/yaml", 303)
    try:
        await parts.manager.start(language, draft.key)
    except PageProblem as error:
        return await _page(request, draft, problem=error, status=error.status)
    return RedirectResponse(f"/deployments/{draft.key}", 303)


async def preview(request: Request) -> Response:
    """What the page's script asks for while one types: HTML of the preview, and what is to be said at each field."""
    parts, language = parts_of(request), language_of(request)
    draft = Draft.of(await read_form(request))
    verdict, new_project = await _judged(parts, language, draft)
    context = _preview(draft, verdict, new_project)
    html = parts.pages.fragment(language, "new_preview.html", **context)
    return JSONResponse({"preview": html, "wrong": context["wrong"]}, headers={"Cache-Control": "no-store"})


async def size(request: Request) -> Response:
    """The image's size as far as packages make it, as HTML."""
    parts, language = parts_of(request), language_of(request)
    draft = Draft.of(await read_form(request))
    estimate, problem = await _estimate(parts, draft)
    html = parts.pages.fragment(language, "new_size.html", estimate=estimate, problem=problem)
    return JSONResponse({"size": html}, headers={"Cache-Control": "no-store"})


# --- what the page shows ------------------------------------------------------------------------------------------


async def _page(
    request: Request,
    draft: Draft,
    *,
    targets: Targets | None = None,
    problem: PageProblem | None = None,
    status: int = 200,
) -> Response:
    parts, language = parts_of(request), language_of(request)
    targets = targets or await parts.manager.targets(language)
    verdict, new_project = await _judged(parts, language, draft)
    context = {
        "values": draft.values,
        "targets": targets.targets,
        "ignored_by": {name: _ignored_fields(paths) for name, paths in targets.ignores.items()},
        "pythons": PYTHONS,
        "problem": problem.problem if problem else None,
        "asked": status != 200,
        "estimate": None,
        **_preview(draft, verdict, new_project),
    }
    return parts.pages.page(request, "new.html", status, here="new", **context)


def _ignored_fields(paths: tuple[str, ...]) -> list[str]:
    return sorted({name for path in paths for name in draft_yaml.fields_below(path)})


def _preview(draft: Draft, verdict: Verdict, new_project: bool) -> dict[str, Any]:
    wrong: dict[str, list[str]] = {}
    for finding in verdict.findings:
        wrong.setdefault(draft_yaml.field_of(finding.path) or "", []).append(finding.message)
    return {
        "draft": draft,
        "verdict": verdict,
        "wrong": wrong,
        "new_project": new_project,
        "lines": lines_of(ProjectFile(text=draft.text.removesuffix("\n"), verdict=verdict), cover=False),
    }


async def _judged(parts: WebParts, language: Language, draft: Draft) -> tuple[Verdict, bool]:
    """The manager's verdict, and whether the project has no folder yet."""
    if draft.key is not None:
        try:
            return await parts.manager.judge(language, draft.text, draft.key), False
        except PageProblem as error:
            if error.status != _NO_SUCH_PROJECT:
                raise
    return await parts.manager.judge(language, draft.text, None), draft.key is not None


async def _estimate(parts: WebParts, draft: Draft) -> tuple[Estimate | None, str]:
    """The estimate, or why there is none."""
    lines = [line.strip() for line in draft.values.get("packages", "").splitlines() if line.strip()]
    if not lines or parts.estimator is None:
        return None, ""
    try:
        request = BuildRequest(
            owner="gui/estimate",
            source=".",
            entrypoint=("python",),
            python=draft.values.get("python") or "3.11",
            accelerator="gpu" if draft.values.get("accelerator") == "gpu" else "cpu",
            requirements=tuple(Requirement(text=line) for line in lines[:500]),
        )
        return await parts.estimator.estimate(request), ""
    except BuildError as error:
        return None, error.problem.cause
    except (TimeoutError, ValueError):
        return None, ""


ROUTES = (
    Route("/new", new),
    Route("/new", save, methods=["POST"]),
    Route("/new/preview", preview, methods=["POST"]),
    Route("/new/size", size, methods=["POST"]),
    Route("/deployments/{user}/{project}/edit", edit),
)
