"""The wire between the manager and the builder: what is asked for, what is answered.

The manager imports this module and nothing else of the builder. Everything here is data: no I/O, no defaults that
depend on the machine.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue

Platform = Literal["linux/amd64", "linux/arm64", "darwin/amd64", "darwin/arm64"]
"""Operating system and architecture in OCI words. `darwin/*` exists for the `local` target only."""

Accelerator = Literal["cpu", "gpu"]

SCRATCH = "scratch"
"""The base image that is no image: layers only, to be laid over a machine's own python."""


ERROR_PAGES = "/docs/errors"
"""Where both services serve a page about each code."""


class Wire(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Problem(Wire):
    """What went wrong, in words for the person who can mend it."""

    code: str = Field(description="Stable snake_case identifier, e.g. `package_not_found`.")
    cause: str = Field(description="One line: what is wrong, naming the thing and, where known, file:line:column.")
    fix: str = Field(description="One line: what to do about it.")
    retryable: bool = Field(default=False, description="True if trying again without a change may succeed.")
    docs: str = Field(
        default_factory=lambda known: f"{ERROR_PAGES}/{known.get('code', '')}",
        description="Path of the page about `code`, on the service that answers.",
    )

    def __str__(self) -> str:
        return f"{self.cause.rstrip('.')}. {self.fix}"


class Requirement(Wire):
    """One python requirement (PEP 508) and where a person wrote it."""

    text: str
    origin: str = Field(default="", description="`file:line:column: path` of the line that asked for it.")


class BuildRequest(Wire):
    """Everything an image depends on, besides the bytes of the files under `source`."""

    owner: Annotated[str, Field(min_length=1, max_length=140)] = Field(
        description="Who asks, e.g. `7/42`. Owners share a build of the same content key; the last to leave cancels "
        "it. Asking for another build leaves the one that the owner waited for."
    )
    source: str = Field(
        max_length=4096,
        description="Folder with the program, relative to the shared root, e.g. `common/7/42/nn_model`.",
    )
    platform: Platform = "linux/amd64"
    python: Annotated[str, Field(pattern=r"^3\.\d{1,2}$")] = "3.11"
    accelerator: Accelerator = "cpu"
    base_image: str | None = Field(
        default=None, description="Image reference; `scratch` for layers only; None: python:X.Y-slim."
    )
    requirements: tuple[Requirement, ...] = Field(default=(), max_length=5000)
    lock: str | None = Field(
        default=None,
        max_length=4096,
        description="Requirements file with hashes, or pylock.toml, that says what is installed: a path below "
        "`source`, or `../FILE` beside that folder. `requirements` given too must be met by it.",
    )
    system_packages: tuple[str, ...] = Field(default=(), description="apt packages, `name` or `name=version`.")
    system_package_origins: tuple[str, ...] = Field(
        default=(), description="Where each of them was written, as `Requirement.origin`; may be left out."
    )
    pre_exec: tuple[tuple[str, ...], ...] = Field(
        default=(), description="argv lists run in order before the entrypoint."
    )
    entrypoint: tuple[str, ...] = Field(description="argv as it shall be executed, relative to `workdir`.")
    workdir: str = "/workspace"
    port: Annotated[int, Field(ge=1, le=65535)] = 8080
    weights: tuple[str, ...] = Field(
        default=(), description="Files under `source` that get a layer apart from the program."
    )
    engine: Literal["docker", "buildah", "cloud-build"] | None = Field(
        default=None,
        description="Builds the `Dockerfile` of `source` whole; without one, the engine that installs system packages.",
    )
    push: str | None = Field(
        default=None, description="Image reference to publish to; None keeps it in the builder's own store."
    )


class ImageReference(Wire):
    """An image by digest. `repository` is served by the builder's read-only registry under `/v2/`."""

    repository: str = Field(description="e.g. `builds/4f2a…`")
    digest: Annotated[str, Field(pattern=r"^sha256:[0-9a-f]{64}$")]
    size: int = Field(ge=0, description="Sum of the compressed layers, in bytes.")
    pushed: str | None = Field(default=None, description="Where it was published: `registry/repository@sha256:…`.")


class BuildState(StrEnum):
    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def done(self) -> bool:
        return self in (BuildState.SUCCEEDED, BuildState.FAILED, BuildState.CANCELLED)


LayerKind = Literal["base", "wheel", "wheels", "bytecode", "weights", "program", "config"]
LayerState = Literal["waiting", "fetching", "building", "built", "reused", "pushing", "mounted", "uploaded"]

RESTING: tuple[LayerState, ...] = ("built", "reused", "mounted", "uploaded")
"""The states in which a layer is there."""


class LayerProgress(Wire):
    """One layer of a build. Sizes in bytes; `done` of `total` of the work in the present state."""

    name: str
    kind: LayerKind
    state: LayerState = "waiting"
    origin: Literal["built", "reused"] | None = Field(default=None, description="How it came about, once it is here.")
    done: int = 0
    total: int = 0
    digest: str | None = None
    size: int = Field(default=0, description="Compressed size, once built or reused.")
    fetched: int = Field(default=0, description="Bytes of its wheels that came over the network for this build.")
    seconds: float = 0.0


class BuildSummary(Wire):
    """What a build that is done cost, and what it saved. Sizes in bytes, times in seconds."""

    fetched: int = Field(default=0, description="Bytes of wheels that came over the network.")
    built: int = Field(default=0, description="Compressed bytes of layers made by this build.")
    reused: int = Field(default=0, description="Compressed bytes of layers that were there.")
    mounted: int = Field(default=0, description="Bytes that the registry took from another repository of its own.")
    uploaded: int = Field(default=0, description="Bytes of layers sent to the registry.")
    steps: dict[str, float] = Field(default_factory=dict, description="Seconds by step, without waiting in the queue.")
    slowest: str | None = Field(default=None, description="Name of the layer that took longest, if any was made.")


_BUILD: dict[str, JsonValue] = {
    "id": "4f2a9d0c31b7e6584f2a9d0c31b7e658",
    "state": "running",
    "step": "layers",
    "owners": ["7/42"],
    "request": {"owner": "7/42", "source": "common/7/42/nn_model", "entrypoint": ["python", "main.py"]},
    "image": None,
    "base": None,
    "problem": None,
    "layers": [{"name": "torch", "kind": "wheel", "state": "building", "done": 73_400_320, "total": 196_083_712}],
    "summary": None,
    "created": 1_767_225_600.0,
    "finished": None,
}


class BuildStatus(Wire):
    model_config = ConfigDict(json_schema_extra={"examples": [_BUILD]})

    id: str = Field(description="First 32 hex digits of the content key: the same inputs give the same id.")
    state: BuildState
    step: Literal["queued", "base", "resolve", "fetch", "layers", "assemble", "push", "done"] = "queued"
    owners: tuple[str, ...] = ()
    request: BuildRequest
    image: ImageReference | None = None
    base: str | None = Field(default=None, description="The base image as it was found: `registry/name@sha256:…`.")
    problem: Problem | None = None
    layers: tuple[LayerProgress, ...] = ()
    summary: BuildSummary | None = Field(default=None, description="Once it is done, unless an older builder did it.")
    created: float = Field(description="Unix time, seconds.")
    finished: float | None = None


CacheKind = Literal["image", "blob", "wheel", "lock", "index", "hashes", "record", "other"]
"""blob: a layer, configuration or manifest; index: notes on what was made of what; hashes: of the projects' files."""


WhyGone = Literal["least recently used", "too large", "old", "corrupt", "incomplete", "leftover"]


class CacheRow(Wire):
    """All that the builder keeps of one kind."""

    kind: CacheKind
    count: int
    size: int = Field(description="Bytes on the disk.")


class CacheThing(Wire):
    """One thing that goes, would go, or has gone from the builder's folder."""

    kind: CacheKind
    name: str = Field(description="e.g. `builds/4f2a…`, `sha256:…`, or a file relative to the builder's folder.")
    size: int = Field(description="Bytes that its going frees.")
    used: float = Field(description="When it was last used. Unix time, seconds.")
    why: WhyGone


class CacheView(Wire):
    """The builder's folder. Sizes in bytes on the disk."""

    bound: int = Field(description="CACHE_MAX_BYTES; 0: no bound.")
    size: int
    in_use: int = Field(description="Files that running builds use; they stay whatever the bound.")
    kinds: tuple[CacheRow, ...]
    images: int = Field(description="Images that are whole.")
    would_go: tuple[CacheThing, ...] = Field(description="What POST /gc would remove now, in this order.")


class CacheCleared(Wire):
    """What clearing the cache has done, or would do. Sizes in bytes on the disk."""

    dry_run: bool
    verified: int = Field(description="Files that were read and compared with their sha256.")
    bound: int = Field(description="CACHE_MAX_BYTES; 0: no bound.")
    before: int
    after: int = Field(description="More than the bound only if the rest is in use, or cannot be removed.")
    gone: tuple[CacheThing, ...]


class PinRequest(Wire):
    """Images to be kept for an owner, whatever the bound of the cache; none: it wants nothing kept any more."""

    owner: str = Field(min_length=1, max_length=140, examples=["7/42"])
    digests: tuple[Annotated[str, Field(pattern=r"^sha256:[0-9a-f]{64}$")], ...] = Field(
        max_length=100, examples=[["sha256:" + "4f" * 32]]
    )


class BuildEvent(Wire):
    """One line of a build's history, streamed as server-sent events. `sequence` starts at 1 in each build."""

    sequence: int
    time: float
    kind: Literal["step", "layer", "log", "done"]
    message: str
    layer: LayerProgress | None = None
    base: str | None = Field(default=None, description="With the line that tells which base image was found.")
    layers: tuple[LayerProgress, ...] = Field(default=(), description="With `done`: how each layer came about.")
    summary: BuildSummary | None = Field(default=None, description="With `done`.")
