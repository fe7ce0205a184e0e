"""The record of one project: what is wanted, how far the world is, and the facts learned on the way. Pure."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from cloud_manager.deployment_spec import DeploymentSpec
from image_builder.contract import BuildRequest, ImageReference, Problem


@dataclass(frozen=True, slots=True, order=True)
class Key:
    """Names a project. Both parts have passed `names.check_id`."""

    user_id: str
    project_id: str

    def __str__(self) -> str:
        return f"{self.user_id}/{self.project_id}"


class Want(StrEnum):
    PRESENT = "present"
    ABSENT = "absent"


class Phase(StrEnum):
    """The word that TANGO's project manager reads from `/status_request`."""

    STARTED = "started"
    BUILDING = "building"
    PREPARING = "preparing"
    RUNNING = "running"
    STOPPING = "stopping"
    STOPPED = "stopped"
    FAILED = "failed"

    @property
    def at_rest(self) -> bool:
        """Nothing is under way: only a new wish or a change in the world moves the project on."""
        return self in (Phase.RUNNING, Phase.STOPPED, Phase.FAILED)


LEGAL: dict[Phase, frozenset[Phase]] = {
    Phase.STARTED: frozenset({Phase.BUILDING, Phase.PREPARING, Phase.RUNNING, Phase.STOPPING, Phase.FAILED}),
    Phase.BUILDING: frozenset({Phase.STARTED, Phase.PREPARING, Phase.RUNNING, Phase.STOPPING, Phase.FAILED}),
    Phase.PREPARING: frozenset({Phase.STARTED, Phase.BUILDING, Phase.RUNNING, Phase.STOPPING, Phase.FAILED}),
    Phase.RUNNING: frozenset({Phase.STARTED, Phase.BUILDING, Phase.PREPARING, Phase.STOPPING, Phase.FAILED}),
    Phase.STOPPING: frozenset({Phase.STARTED, Phase.STOPPED, Phase.FAILED}),
    Phase.STOPPED: frozenset({Phase.STARTED, Phase.STOPPING}),
    Phase.FAILED: frozenset({Phase.STARTED, Phase.BUILDING, Phase.PREPARING, Phase.RUNNING, Phase.STOPPING}),
}


def may_become(old: Phase, new: Phase) -> bool:
    return old == new or new in LEGAL[old]


Stage = Literal["new", "asked", "built", "applied"]
"""How far a generation is: nothing done, its build asked for, its image known, its revision asked of the target."""


class Facts(BaseModel):
    """What the controller has learned; written by it alone, kept as JSON. Unknown keys of newer versions are kept."""

    model_config = ConfigDict(extra="allow", frozen=True)

    build_id: str | None = None
    image: ImageReference | None = None
    image_uri: str | None = None
    """Set instead of `image` when the file names a prebuilt image."""
    resolved_uri: str | None = None
    """What `image_uri` was found to mean: the same image by its digest."""
    revision: str | None = None
    """The revision that was last asked of the target."""
    url: str | None = None
    problem: Problem | None = None
    detail: str = ""
    placed_on: tuple[str, ...] = ()
    """Targets on which something of this project may exist; stored before the first call to any of them."""
    left: tuple[str, ...] = ()
    """Targets on which nothing is left, to be looked at once more when the project has been stopped for a while."""
    settled_generation: int = 0
    """The generation for which the world was last seen to match."""
    generation: int = 0
    """The newest generation that the controller has taken up; the fields below belong to it."""
    stage: Stage = "new"
    began: float = 0.0
    """When this generation was taken up, or its healing began. Unix seconds."""
    since: float = 0.0
    """When the present phase began. Unix seconds."""
    asking: BuildRequest | None = None
    """Stored before the builder is asked: until its answer is stored, a build nobody has noted may exist."""
    images_lost: int = 0
    """How often the image was gone from the builder's store since the service last ran."""
    secrets_salt: str = ""
    """Random; without it nobody learns anything of a secret from `secrets_mark` or a revision. Told to nobody."""
    secrets_mark: str = ""
    """Changes with the value of any secret that the target reads; as it was when the image became known."""
    drift: tuple[str, ...] = ()
    """What somebody has changed behind our back, where `deploy.on_drift: report` leaves it so."""
    keep: tuple[str, ...] = ()
    """Digests of the images that the builder must not clear away: what serves, and the last good one before."""
    kept: tuple[str, ...] = ()
    """Of these, what it was told."""
    told: tuple[str, ...] = ()
    """What the history has said already of this generation, so that it is not said again."""


class Pinned(BaseModel):
    """What a rollback brings back: an earlier revision with the image that it had. Nothing is read or built for it."""

    model_config = ConfigDict(frozen=True)

    revision: str
    image: ImageReference | None = None
    image_uri: str | None = None


@dataclass(frozen=True, slots=True)
class Deployment:
    """One row. Times are Unix seconds. The wishes write want, generation, spec, pinned; the controller the rest."""

    key: Key
    want: Want
    generation: int
    spec: DeploymentSpec | None
    spec_digest: str
    origins: dict[str, str]
    """As `LoadedSpec.origins`, of the file that `spec` was read from."""
    phase: Phase
    facts: Facts
    token: int
    due: float
    tries: int
    created: float
    updated: float
    pinned: Pinned | None = None
    """Set by a rollback; None where the project's files say what is wanted."""


@dataclass(frozen=True, slots=True)
class Event:
    """One line of a project's history, for people. `sequence` grows over all projects."""

    sequence: int
    key: Key
    time: float
    generation: int
    kind: str
    """e.g. `start`, `stop`, `rollback`, `note`, `phase`, `build`, `target`, `error`, `retry`"""
    message: str
    problem: Problem | None = None


def digest_of(spec: DeploymentSpec) -> str:
    """sha256 hex of the canonical JSON of a spec: the same wish has the same digest, whatever its layout in YAML."""
    return _digest(spec.model_dump(mode="json"))


def revision_of(spec: DeploymentSpec, image: str, secrets: str = "") -> str:
    """Identity of what a target shall run: the image and how it is run. 16 hex digits, fit for a label.

    Args:
        image: a digest (`sha256:…`) or, for a prebuilt image, its reference.
        secrets: `Facts.secrets_mark`.
    """
    # `on_drift` is for the manager: what runs is the same with either.
    deploy = spec.deploy.model_dump(mode="json", exclude={"on_drift"})
    return _digest({"deploy": deploy, "image": image} | ({"secrets": secrets} if secrets else {}))[:16]


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
