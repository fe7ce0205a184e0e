"""A project's history as steps with durations. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from image_builder.web.manager_models import Deployment, Event

StepName = Literal["asked", "image", "service", "removing", "running", "stopped", "drift"]
StepState = Literal["done", "active", "failed"]
_ASKING = frozenset({"start", "stop", "rollback"})


@dataclass(frozen=True, slots=True)
class Step:
    """ended: None while it goes on, and for the last of a project at rest."""

    name: StepName
    state: StepState
    events: tuple[Event, ...]
    ended: float | None

    @property
    def began(self) -> float:
        return self.events[0].time

    @property
    def seconds(self) -> float | None:
        return None if self.ended is None else self.ended - self.began


@dataclass(frozen=True, slots=True)
class Chapter:
    """What one wish led to. kind: `start`, `stop` or `rollback`."""

    generation: int
    kind: str
    steps: tuple[Step, ...]

    @property
    def began(self) -> float:
        return self.steps[0].began

    @property
    def failed(self) -> bool:
        return any(step.state == "failed" for step in self.steps)


def chapters(events: Sequence[Event], deployment: Deployment) -> tuple[Chapter, ...]:
    """By generation, the newest first; without wishes that the deployment does not know of yet."""
    by_generation: dict[int, list[Event]] = {}
    for event in events:
        if event.generation > deployment.generation:
            continue
        by_generation.setdefault(event.generation, []).append(event)
    newest = max(by_generation, default=0)
    found = [
        _chapter(generation, some, is_open=generation == newest and not deployment.phase.at_rest)
        for generation, some in by_generation.items()
    ]
    return tuple(sorted(found, key=lambda chapter: -chapter.generation))


def _chapter(generation: int, events: list[Event], *, is_open: bool) -> Chapter:
    kind = next((event.kind for event in events if event.kind in _ASKING), "start")
    groups: list[tuple[StepName, list[Event]]] = []
    for event in events:
        name = _step_of(event, groups[-1][0] if groups else "asked", going=kind == "stop")
        if groups and groups[-1][0] == name:
            groups[-1][1].append(event)
        else:
            groups.append((name, [event]))
    steps = []
    for number, (name, some) in enumerate(groups):
        last = number == len(groups) - 1
        ended = None if last else groups[number + 1][1][0].time
        steps.append(_step(name, some, ended, is_open=is_open and last))
    return Chapter(generation, kind, tuple(steps))


def _step(name: StepName, events: list[Event], ended: float | None, *, is_open: bool) -> Step:
    failed = any(event.kind == "error" for event in events)
    if failed and ended is None:
        ended = events[-1].time
    state: StepState = "failed" if failed else "active" if is_open else "done"
    return Step(name, state, tuple(events), ended)


def _step_of(event: Event, current: StepName, *, going: bool) -> StepName:
    """Notes, errors and new tries belong to what went on when they came."""
    steps: dict[str, StepName] = {
        **dict.fromkeys(_ASKING, "asked"),
        "build": "image",
        "target": "removing" if going else "service",
        "phase": "stopped" if going else "running",
        "drift": "drift",
    }
    return steps.get(event.kind, current)
