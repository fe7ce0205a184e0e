"""`/new`: a form that writes a deployment.yaml, judged while one types; `/deployments/U/P/edit`: the text itself."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from image_builder.contract import BuildRequest, Requirement
from image_builder.errors import BuildError
from image_builder.problem_words.speech import speak
from image_builder.size_estimate import Estimate
from image_builder.web import draft_yaml
from image_builder.web.deployment_view import Visit
from image_builder.web.forms import read_form
from image_builder.web.languages import Language
from image_builder.web.manager_models import ProjectFile, Targets, Trouble, Verdict
from image_builder.web.pages import language_of
from image_builder.web.parts import WebParts, parts_of
from image_builder.web.problems import ManagerAway, PageProblem
from image_builder.web.yaml_view import lines_of

_ID = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}")
_IDS = ("user", "project")
_NO_SUCH_PROJECT = 404
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
        text = values.get("text", "") if by_hand else draft_yaml.yaml_of(values)
        return cls(values, text.replace("\r\n", "\n"), by_hand)

    @property
    def key(self) -> str | None:
        """`7/42`, once both ids are right."""
        return None if self.wrong_ids else "/".join(self.values[name].strip() for name in _IDS)

    @property
    def asked(self) -> bool:
        """Whether a button was pressed that has everything judged, also what was not touched."""
        return self.values.get("action", "yaml") != "yaml"

    @property
    def wrong_ids(self) -> tuple[str, ...]:
        """Which of `user` and `project` cannot be."""
        return tuple(name for name in _IDS if not _ID.fullmatch(self.values.get(name, "").strip()))


@dataclass(frozen=True, slots=True)
class Judged:
    """place: `new`: saving makes the project's folder; `replaced`: it replaces a file that is there."""

    verdict: Verdict
    place: Literal["", "new", "replaced"] = ""


async def new(request: Request) -> Response:
    """The empty form; `user` and `project` may be given."""
    parts, language = parts_of(request), language_of(request)
    targets = await parts.manager.targets(language)
    given = {name: request.query_params.get(name, "")[:64] for name in ("user", "project")}
    first = "local" if "local" in targets.targets else next(iter(targets.targets), "docker")  # needs nothing
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
    """action: `yaml` goes on with the text; `save` writes it; `start` also starts it; anything else only judges it."""
    parts, language = parts_of(request), language_of(request)
    values = await read_form(request)
    draft, action = Draft.of(values), values.get("action", "")
    if action == "yaml":
        return await _page(request, Draft.of({**values, "mode": "yaml", "text": draft.text}))
    if draft.key is None or action not in ("save", "start"):
        return await _page(request, draft, status=200 if draft.key else 422)
    try:
        await parts.manager.write(language, draft.key, draft.text)
        if action == "start":
            await parts.manager.act(language, draft.key, "start")
    except PageProblem as error:
        return await _page(request, draft, problem=error, status=error.status)
    return RedirectResponse(f"/deployments/{draft.key}{'' if action == 'start' else '/yaml'}", 303)


async def preview(request: Request) -> Response:
    """What the page's script asks for while one types: HTML of the preview, and what is to be said at each field."""
    parts, language = parts_of(request), language_of(request)
    draft = Draft.of(await read_form(request))
    context = _preview(parts, language, draft, await _judged(parts, language, draft))
    html = parts.pages.fragment(language, "new_preview.html", **context)
    return JSONResponse({"preview": html, "wrong": context["wrong"]}, headers={"Cache-Control": "no-store"})


async def size(request: Request) -> Response:
    """The image's size as far as packages make it, as HTML."""
    parts, language = parts_of(request), language_of(request)
    draft = Draft.of(await read_form(request))
    try:
        estimate, problem, late = await _estimate(parts, draft), None, False
    except BuildError as error:
        estimate, problem, late = None, speak(language).problem(error.problem), False
    except TimeoutError:
        estimate, problem, late = None, None, True
    html = parts.pages.fragment(language, "new_size.html", estimate=estimate, problem=problem, late=late)
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
    targets = targets or await _targets(parts, language, draft)
    context = {
        "values": draft.values,
        "targets": targets.targets,
        "ignored_by": {name: _ignored_fields(paths) for name, paths in targets.ignores.items()},
        "pythons": PYTHONS,
        "problem": problem.problem if problem and not isinstance(problem, ManagerAway) else None,
        "asked": draft.asked,
        **_preview(parts, language, draft, await _judged(parts, language, draft)),
    }
    return parts.pages.page(request, "new.html", status, here="new", **context)


def _ignored_fields(paths: tuple[str, ...]) -> list[str]:
    return sorted({name for path in paths for name in draft_yaml.fields_below(path)})


def _preview(parts: WebParts, language: Language, draft: Draft, judged: Judged) -> dict[str, Any]:
    verdict, say = judged.verdict, parts.pages.words_of(language)
    wrong = {name: [say("new.id_wrong")] for name in draft.wrong_ids}
    for finding in verdict.findings:
        wrong.setdefault(draft_yaml.field_of(finding.path) or "", []).append(finding.message)
    return {
        "draft": draft,
        "verdict": verdict,
        "wrong": wrong,
        "place": judged.place,
        "lines": lines_of(ProjectFile(text=draft.text.removesuffix("\n"), verdict=verdict), cover=False),
    }


async def _targets(parts: WebParts, language: Language, draft: Draft) -> Targets:
    """While the manager is away, the one that was chosen: what somebody has typed is not lost for it."""
    try:
        return await parts.manager.targets(language)
    except ManagerAway:
        chosen = draft.values.get("target")
        return Targets(targets=(chosen,) if chosen else ())


async def _judged(parts: WebParts, language: Language, draft: Draft) -> Judged:
    """What the manager says of the draft; or that it is away."""
    try:
        return await _judged_by_manager(parts, language, draft)
    except ManagerAway as error:
        away = Trouble(**error.said(language).model_dump())
        return Judged(Verdict(valid=False, problems=(away,)))


async def _judged_by_manager(parts: WebParts, language: Language, draft: Draft) -> Judged:
    """With the project's files where there is such a project."""
    if draft.key is None:
        return Judged(await parts.manager.judge(language, draft.text, None))
    try:
        verdict = await parts.manager.judge(language, draft.text, draft.key)
    except PageProblem as error:
        if error.status != _NO_SUCH_PROJECT:
            raise
        return Judged(await parts.manager.judge(language, draft.text, None), "new")
    replaces = not draft.by_hand and await _has_file(parts, language, draft.key)
    return Judged(verdict, "replaced" if replaces else "")


async def _has_file(parts: WebParts, language: Language, key: str) -> bool:
    try:
        await parts.manager.file(language, key)
    except PageProblem as error:
        return error.status != _NO_SUCH_PROJECT
    return True


async def _estimate(parts: WebParts, draft: Draft) -> Estimate | None:
    """None: there is nothing to weigh, or a value is told wrong at its field. Raises BuildError, TimeoutError."""
    lines = [line.strip() for line in draft.values.get("packages", "").splitlines() if line.strip()]
    if not lines or parts.estimator is None:
        return None
    try:
        request = BuildRequest(
            owner="gui/estimate",
            source=".",
            entrypoint=("python",),
            python=draft.values.get("python") or "3.11",
            accelerator="gpu" if draft.values.get("accelerator") == "gpu" else "cpu",
            requirements=tuple(Requirement(text=line) for line in lines[:500]),
        )
    except ValueError:
        return None
    return await parts.estimator.estimate(request)


ROUTES = (
    Route("/new", new),
    Route("/new", save, methods=["POST"]),
    Route("/new/preview", preview, methods=["POST"]),
    Route("/new/size", size, methods=["POST"]),
    Route("/deployments/{user}/{project}/edit", edit),
)
