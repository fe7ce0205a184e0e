"""What the `local` target and its supervisor tell each other, as JSON files. Standard library only: the supervisor
is one small process per project and must stay small."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

ServiceState = Literal["starting", "ready", "restarting", "failed", "stopping", "stopped"]
Problem = dict[str, Any]
"""As `image_builder.contract.Problem`: code, cause, fix, retryable."""


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds, save for `crashes`: so many in a row and the service is given up."""

    grace: float = 10.0
    """Between SIGTERM and SIGKILL, as Cloud Run: https://cloud.google.com/run/docs/container-contract#instance-shutdown"""
    drain: float = 10.0
    """How long an older revision may end its connections."""
    backoff: float = 1.0
    backoff_limit: float = 60.0
    stable: float = 60.0
    """So long in health, and earlier crashes are forgotten."""
    crashes: int = 5
    probe: float = 0.2
    """Between two looks at a program that comes up."""
    elsewhere: float = 10.0
    """How long a program may answer on another port than PORT before it is told so."""


@dataclass(frozen=True, slots=True)
class Run:
    """One revision, ready to be started. `port` is the private port it gets if that is free."""

    revision: str
    argv: tuple[str, ...]
    env: dict[str, str]
    cwd: str
    port: int
    public_host: str
    public_port: int | None
    health_path: str = "/"
    startup_seconds: float = 240.0
    period_seconds: float = 10.0
    timeout_seconds: float = 5.0
    failure_threshold: int = 3
    timing: Timing = field(default_factory=Timing)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Run:
        return cls(**{**value, "argv": tuple(value["argv"]), "timing": Timing(**value["timing"])})


@dataclass(frozen=True, slots=True)
class ServiceReport:
    """One revision as the supervisor sees it. `pid` and `started` (Unix time) are for people, never an identity."""

    revision: str
    state: ServiceState
    port: int | None = None
    pid: int | None = None
    started: float | None = None
    restarts: int = 0
    problem: Problem | None = None


@dataclass(frozen=True, slots=True)
class Report:
    """The supervisor's state file. `nonce` is that of the last wish it took; `serving` the revision clients reach."""

    nonce: str
    revision: str
    pid: int
    host: str | None = None
    port: int | None = None
    serving: str | None = None
    services: tuple[ServiceReport, ...] = ()

    def newest(self) -> ServiceReport | None:
        """The service of the wished revision; the last one if an older attempt of it is still stopping."""
        return next((one for one in reversed(self.services) if one.revision == self.revision), None)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Report:
        return cls(**{**value, "services": tuple(ServiceReport(**one) for one in value["services"])})
