"""What the manager answers, as far as the GUI shows it. The manager may be newer: other keys are left out.

Times are Unix seconds, sizes bytes.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from pydantic import BaseModel, ConfigDict


class Phase(StrEnum):
    """The words of `/status_request`."""

    STARTED = "started"
    BUILDING = "building"
    PREPARING = "preparing"
    RUNNING = "running"
    STOPPING = "stopping"
    STOPPED = "stopped"
    FAILED = "failed"

    @property
    def at_rest(self) -> bool:
        return self in (Phase.RUNNING, Phase.STOPPED, Phase.FAILED)


class Answer(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class Trouble(Answer):
    """A `Problem` of the contract; of a newer manager with more in it."""

    code: str
    cause: str
    fix: str
    retryable: bool = False
    docs: str | None = None


class Image(Answer):
    repository: str
    digest: str
    size: int = 0
    pushed: str | None = None


class Event(Answer):
    sequence: int
    time: float
    generation: int
    kind: str
    message: str
    problem: Trouble | None = None


class EventPage(Answer):
    items: tuple[Event, ...]
    next: int | None = None


class Deployment(Answer):
    user_id: str
    project_id: str
    phase: Phase
    want: str = "present"
    generation: int = 0
    settled_generation: int = 0
    target: str | None = None
    url: str | None = None
    image: Image | None = None
    image_uri: str | None = None
    revision: str | None = None
    problem: Trouble | None = None
    detail: str = ""
    build_id: str | None = None
    drift: tuple[str, ...] = ()
    created: float
    updated: float
    last_event: Event | None = None

    @property
    def key(self) -> str:
        return f"{self.user_id}/{self.project_id}"

    @property
    def moment(self) -> float:
        """When something last happened, for people."""
        return self.last_event.time if self.last_event else self.updated

    @property
    def shown(self) -> Deployment:
        """Without what changes at every look of the manager."""
        return self.model_copy(update={"updated": 0.0})

    @property
    def searched(self) -> str:
        """What a search looks into; lowercase."""
        image = (self.image.digest, self.image.pushed or "") if self.image else ()
        parts = (self.key, self.phase, self.target or "", self.url or "", self.image_uri or "", *image)
        return " ".join(parts).lower()


class Finding(Answer):
    """A place in deployment.yaml and what is to be said of it; lines and columns from 1."""

    line: int
    column: int
    path: str = ""
    message: str


class Verdict(Answer):
    valid: bool
    target: str | None = None
    findings: tuple[Finding, ...] = ()
    problems: tuple[Trouble, ...] = ()
    ignored: tuple[Finding, ...] = ()
    notes: tuple[str, ...] = ()


class Targets(Answer):
    """ignores: of each target, the paths of deployment.yaml that mean nothing to it."""

    targets: tuple[str, ...]
    ignores: dict[str, tuple[str, ...]] = {}


class ProjectFile(Answer):
    text: str
    verdict: Verdict


class Revision(Answer):
    """One that ran well. spec: None if another release of the manager wrote it."""

    revision: str
    wanted: bool
    generation: int
    target: str | None = None
    image: Image | None = None
    image_uri: str | None = None
    resolved_uri: str | None = None
    first_running: float
    since: float
    until: float | None = None
    spec: dict[str, Any] | None = None


class RevisionList(Answer):
    items: tuple[Revision, ...]


class Meaning(Answer):
    code: str
    cause: str
    fix: str


class DeploymentPage(Answer):
    items: tuple[Deployment, ...]
    next: str | None = None
