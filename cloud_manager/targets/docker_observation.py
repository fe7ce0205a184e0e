"""What the state of a project's containers means, in the words of the target's promises. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from cloud_manager.targets.docker_world import Box, World
from cloud_manager.targets.local_problems import exited as _exited
from cloud_manager.targets.local_problems import problem
from cloud_manager.targets.target import Observation, State
from image_builder.contract import Problem

_ENDED = ("exited", "dead")


@dataclass(frozen=True, slots=True)
class FrontState:
    """What a front says of itself (`docker_front.py`). box: its container.

    attempt: names the wish it follows. container: the id of the program it is to turn to.
    active: (alias, port) of the program that serves now. open: alias -> connections. port, startup: as the file says.
    """

    box: Box
    attempt: str
    at: float
    revision: str
    container: str
    settled: bool
    verdict: str
    reason: str
    health: str
    active: tuple[str, int] | None
    port: int = 0
    startup: float = 0.0
    open: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def parse(cls, box: Box, value: Mapping[str, Any]) -> FrontState | None:
        """None while it has not read its first wish."""
        if not value.get("attempt"):
            return None
        active = value["active"]
        return cls(
            box=box,
            attempt=str(value["attempt"]),
            at=float(value["at"]),
            revision=str(value["revision"]),
            container=str(value["container"]),
            settled=bool(value["settled"]),
            verdict=str(value["verdict"]),
            reason=str(value["reason"]),
            health=str(value["health"]),
            active=(str(active[0]), int(active[1])) if active else None,
            port=int(value["port"]),
            startup=float(value["startup"]),
            open=dict(value["open"]),
        )


@dataclass(frozen=True, slots=True)
class Trouble:
    """What the Engine says of a program that does not run as it should.

    lines: the last of its log. memory: MiB that it may use, if bounded. error: why it could not be started.
    """

    exit_code: int = 0
    out_of_memory: bool = False
    memory: int = 0
    error: str = ""
    lines: Sequence[str] = ()


def leading(fronts: Sequence[FrontState]) -> FrontState | None:
    """The front that follows the newest wish."""
    return max(fronts, key=lambda state: state.at, default=None)


def is_finished(world: World, lead: FrontState) -> bool:
    """Nothing is left of older revisions and addresses."""
    return lead.settled and len(world.programs) == 1 and len(world.fronts) == 1


def has_trouble(world: World, lead: FrontState) -> bool:
    """Whether the program's own words are wanted for `observation`."""
    program = world.program(lead.revision)
    wrong = lead.verdict == "failed" or (lead.verdict == "ready" and lead.health != "healthy")
    return program is not None and (wrong or program.state != "running")


def observation(
    world: World, fronts: Sequence[FrontState], *, pushed: str | None, trouble: Trouble | None = None
) -> Observation:
    """Args:
    pushed: the revision that this process is bringing to its end just now. What nobody brings to its end has no
        revision here: the next `apply` takes it up.
    trouble: given where `has_trouble`.
    """
    seen = _observation(world, fronts, pushed=pushed, trouble=trouble)
    drift = _DRIFT.get(seen.problem.code) if seen.problem is not None else None
    if drift is None and not world.boxes and world != World() and pushed is None:
        drift = "its containers were removed"
    # Nothing answers then, whatever a front that is left still says.
    return seen if drift is None else replace(seen, url=None, drift=(drift,))


def _observation(
    world: World, fronts: Sequence[FrontState], *, pushed: str | None, trouble: Trouble | None
) -> Observation:
    if world == World():
        return Observation("absent")
    lead = leading(fronts)
    if lead is None:
        return _unfronted(world, pushed)
    url = _url(lead, fronts)
    program = world.program(lead.revision)
    told = lead.revision if pushed == lead.revision else None
    if program is None or program.id != lead.container:
        return Observation("pending", told, url, None if told else _REMOVED)
    seen = _of_program(program, lead, told, trouble or Trouble())
    if seen is not None:
        state, revision, why = seen
        return Observation(state, revision, url, why, program.name)
    if lead.settled and (told or is_finished(world, lead)):
        return Observation("ready", lead.revision, url, detail=program.name)
    return Observation("pending", told, url, None if told else _INTERRUPTED, program.name)


_Wrong = tuple[State, str | None, Problem | None]


def _of_program(program: Box, lead: FrontState, told: str | None, trouble: Trouble) -> _Wrong | None:
    """(state, revision, problem) where something is wrong with the newest program, or it is still coming up."""
    if lead.verdict == "failed":
        return "failed", lead.revision, never_listens(lead, trouble)
    if program.state == "running":
        return _of_running(lead, told, trouble)
    if program.state == "restarting":
        return "pending", lead.revision if lead.settled else told, ended(trouble, lead.port)
    if program.state in _ENDED and not lead.settled:
        return "failed", lead.revision, ended(trouble, lead.port)
    # Once settled, the Engine starts it again after every end but one: somebody has stopped it.
    return "pending", told, None if told else _STOPPED


def _of_running(lead: FrontState, told: str | None, trouble: Trouble) -> _Wrong | None:
    if lead.verdict == "starting":
        return "pending", told, None if told else _INTERRUPTED
    if lead.health == "healthy":
        return None
    return "pending", lead.revision if lead.health == "down" else told, _unhealthy(lead, trouble)


def _unfronted(world: World, pushed: str | None) -> Observation:
    why = None if pushed else (_NO_FRONT if world.programs else _INTERRUPTED)
    return Observation("pending", pushed, problem=why)


def _url(lead: FrontState, fronts: Sequence[FrontState]) -> str | None:
    """The newest address that is served; while a new address has no program yet, the old one."""
    serving = [state for state in (lead, *fronts) if state.active]
    return serving[0].box.url if serving else None


def ended(trouble: Trouble, port: int) -> Problem:
    """The program has ended by itself, or by the kernel for want of memory."""
    if trouble.out_of_memory:
        bound = f"more than deploy.resources.memory, {trouble.memory} MiB" if trouble.memory else "all there was"
        return Problem(
            code="out_of_memory",
            cause=f"the program was killed: it used {bound} of memory",
            fix="raise deploy.resources.memory, or let the program use less",
        )
    if trouble.error:
        return Problem(code="engine_refused", cause=f"docker: start: {trouble.error}", fix="mend what it names")
    status = trouble.exit_code if trouble.exit_code <= 128 else 128 - trouble.exit_code
    return Problem.model_validate(_exited(status, trouble.lines, port))


def never_listens(lead: FrontState, trouble: Trouble) -> Problem:
    tail = f"; its last lines: {' | '.join(trouble.lines)}" if trouble.lines else ", without a word in its log"
    return Problem.model_validate(
        problem(
            "never_listens",
            f"the program {lead.reason} on PORT={lead.port} within {lead.startup:g} s{tail}",
            "listen on 0.0.0.0 and the PORT variable, or raise deploy.health.startup_seconds if it is slow",
        )
    )


def _unhealthy(lead: FrontState, trouble: Trouble) -> Problem:
    tail = f"; its last lines: {' | '.join(trouble.lines)}" if trouble.lines else ""
    cause = f"the program {lead.reason or 'does not answer'} on port {lead.port}{tail}"
    fix = "look at the service's logs for what it is busy with"
    return Problem(code="unhealthy", cause=cause, fix=fix, retryable=True)


def _healed(code: str, cause: str) -> Problem:
    return Problem(code=code, cause=cause, fix="nothing to do: it is mended by itself", retryable=True)


_DRIFT = {
    "removed": "its container was removed or replaced",
    "stopped": "its container was stopped",
    "front_gone": "the container that holds its public port is gone or stopped",
}
"""Code of a problem that somebody's hand makes -> what was changed."""
_REMOVED = _healed("removed", "the service's container was removed or replaced behind our back")
_STOPPED = _healed("stopped", "the service's container was stopped behind our back")
_NO_FRONT = _healed("front_gone", "the container that holds the service's public port is gone or stopped")
_INTERRUPTED = _healed("interrupted", "a deployment was broken off before its end")
