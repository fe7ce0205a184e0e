"""What the manager answers, as far as the GUI shows it. The manager may be newer: other keys are left out.

Times are Unix seconds, sizes bytes.
"""

from __future__ import annotations

from enum import StrEnum

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
    created: float
    updated: float
    last_event: Event | None = None

    @property
    def key(self) -> str:
        return f"{self.user_id}/{self.project_id}"


class DeploymentPage(Answer):
    items: tuple[Deployment, ...]
    next: str | None = None
