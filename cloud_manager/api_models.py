"""What `/api/v1` answers. Times are Unix seconds, sizes bytes."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from cloud_manager.deployment import Deployment, Event, Phase, Want
from cloud_manager.drafts import Judgement
from cloud_manager.finding import Finding
from image_builder.contract import BuildState, BuildStatus, ImageReference, LayerProgress, Problem

_EXAMPLE_IMAGE: dict[str, JsonValue] = {
    "repository": "builds/4f2a",
    "digest": "sha256:" + "4f" * 32,
    "size": 48_210_334,
}
_EXAMPLE_PROBLEM: dict[str, JsonValue] = {
    "code": "not_found",
    "cause": "project 7/42 was never started",
    "fix": "POST /api/v1/deployments/7/42/start first",
    "retryable": False,
}
_EXAMPLE_DEPLOYMENT: dict[str, JsonValue] = {
    "user_id": "7",
    "project_id": "42",
    "phase": "running",
    "want": "present",
    "generation": 3,
    "settled_generation": 3,
    "target": "local",
    "url": "http://127.0.0.1:41231",
    "image": _EXAMPLE_IMAGE,
    "image_uri": None,
    "revision": "0f3a9b1c2d4e5f60",
    "problem": None,
    "drift": [],
    "detail": "",
    "created": 1767225600.0,
    "updated": 1767225609.5,
    "build": None,
    "build_id": "4f2a9b1c2d4e5f604f2a9b1c2d4e5f60",
    "last_event": None,
}
_EXAMPLE_EVENT: dict[str, JsonValue] = {
    "sequence": 118,
    "time": 1767225609.5,
    "generation": 3,
    "kind": "phase",
    "message": "running at http://127.0.0.1:41231",
    "problem": None,
}


class Answer(BaseModel):
    model_config = ConfigDict(frozen=True)


class ErrorAnswer(Answer):
    """Every error of `/api` has this shape."""

    model_config = ConfigDict(frozen=True, json_schema_extra={"examples": [{"error": _EXAMPLE_PROBLEM}]})

    error: Problem


class BuildAnswer(Answer):
    """The build that is under way, or the last one of this process."""

    id: str
    state: BuildState
    step: str
    layers: tuple[LayerProgress, ...] = ()

    @classmethod
    def of(cls, build: BuildStatus) -> BuildAnswer:
        return cls(id=build.id, state=build.state, step=build.step, layers=build.layers)


class EventAnswer(Answer):
    model_config = ConfigDict(frozen=True, json_schema_extra={"examples": [_EXAMPLE_EVENT]})

    sequence: int = Field(description="Grows; not without gaps.")
    time: float
    generation: int
    kind: str = Field(
        description="e.g. `start`, `stop`, `rollback`, `note`, `phase`, `build`, `target`, `error`, `retry`."
    )
    message: str
    problem: Problem | None

    @classmethod
    def of(cls, event: Event) -> EventAnswer:
        return cls(
            sequence=event.sequence,
            time=event.time,
            generation=event.generation,
            kind=event.kind,
            message=event.message,
            problem=event.problem,
        )


class DeploymentAnswer(Answer):
    model_config = ConfigDict(frozen=True, json_schema_extra={"examples": [_EXAMPLE_DEPLOYMENT]})

    user_id: str
    project_id: str
    phase: Phase = Field(description="The word that `/status_request` answers.")
    want: Want
    generation: int = Field(description="Grows with every start and stop.")
    settled_generation: int = Field(description="The last one for which the world was seen to match the wish.")
    target: str | None = Field(description="`deploy.type` of the file as it was last started.")
    url: str | None = Field(description="Where clients reach the service.")
    image: ImageReference | None
    image_uri: str | None = Field(description="Instead of `image`, when the file names a prebuilt one.")
    revision: str | None = Field(description="What was last asked of the target.")
    problem: Problem | None
    drift: tuple[str, ...] = Field(
        description="What others changed of the service, where `deploy.on_drift: report` leaves it so."
    )
    detail: str
    created: float
    updated: float
    build: BuildAnswer | None
    build_id: str | None = Field(description="The project's build, also once it is done.")
    last_event: EventAnswer | None

    @classmethod
    def of(cls, row: Deployment, build: BuildStatus | None, last: EventAnswer | None = None) -> DeploymentAnswer:
        return cls(
            user_id=row.key.user_id,
            project_id=row.key.project_id,
            phase=row.phase,
            want=row.want,
            generation=row.generation,
            settled_generation=row.facts.settled_generation,
            target=row.spec.deploy.type if row.spec else None,
            url=row.facts.url,
            image=row.facts.image,
            image_uri=row.facts.image_uri,
            revision=row.facts.revision,
            problem=row.facts.problem,
            drift=row.facts.drift,
            detail=row.facts.detail,
            created=row.created,
            updated=row.updated,
            build=BuildAnswer.of(build) if build else None,
            build_id=row.facts.build_id,
            last_event=last,
        )


class DeploymentPage(Answer):
    """With a filter a page may be short, or empty, while `next` still leads on."""

    items: tuple[DeploymentAnswer, ...]
    next: str | None = Field(description="Give it as `after` to read on; null at the end.", examples=["7/42"])


class EventPage(Answer):
    items: tuple[EventAnswer, ...]
    next: int | None = Field(description="Give it as `after` to read on; null at the end.", examples=[118])


class FindingAnswer(Answer):
    """A place in deployment.yaml, and what is to be said of it. Lines and columns start at 1."""

    line: int = Field(examples=[4])
    column: int = Field(examples=[3])
    path: str = Field(description="Dotted; empty for the file itself.", examples=["deploy.region"])
    message: str = Field(examples=["means nothing to docker"])

    @classmethod
    def of(cls, finding: Finding) -> FindingAnswer:
        return cls(line=finding.line, column=finding.column, path=finding.path, message=finding.message)


class DraftAnswer(Answer):
    """`valid`: `start` would take it. The lists are in the order of the file."""

    valid: bool
    target: str | None = Field(description="`deploy.type`; null if the file is not right.", examples=["docker"])
    findings: tuple[FindingAnswer, ...] = Field(description="What is wrong in the text, or with files that it names.")
    problems: tuple[Problem, ...] = Field(description="What the target cannot do.")
    ignored: tuple[FindingAnswer, ...] = Field(description="What means nothing to the target.")
    notes: tuple[str, ...] = Field(description="What was translated or assumed.")

    @classmethod
    def of(cls, judgement: Judgement) -> DraftAnswer:
        return cls(
            valid=judgement.good,
            target=judgement.target,
            findings=tuple(map(FindingAnswer.of, judgement.findings)),
            problems=judgement.problems,
            ignored=tuple(map(FindingAnswer.of, judgement.ignored)),
            notes=judgement.notes,
        )


class FileAnswer(Answer):
    text: str
    verdict: DraftAnswer


class CodeAnswer(Answer):
    """What a code stands for in general; an error's own words say more."""

    code: str = Field(examples=["exited"])
    cause: str
    fix: str


class TargetsAnswer(Answer):
    targets: tuple[str, ...] = Field(
        description="Values of `deploy.type` that this manager serves.", examples=[["local"]]
    )
    ignores: dict[str, tuple[str, ...]] = Field(
        default_factory=dict,
        description="Of each of them, the paths of deployment.yaml that mean nothing to it.",
        examples=[{"local": ["deploy.region", "deploy.scaling"]}],
    )


class Health(Answer):
    status: Literal["ok"] = "ok"


class Readiness(Answer):
    """`ready` only if nothing is listed under `problems`."""

    ready: bool
    problems: tuple[Problem, ...] = ()
