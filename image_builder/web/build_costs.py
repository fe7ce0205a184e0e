"""What made a build slow, and what it saved: from its summary to what the page says. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from image_builder.contract import BuildStatus, BuildSummary
from image_builder.web import humane

Say = Callable[..., str]
_SHORTEST = 0.05
_WORTH_A_WORD = 1.0
"""Seconds. Of a build that took less, nothing was slow."""


@dataclass(frozen=True, slots=True)
class Step:
    """share: of the whole, 0 to 1; start: where it begins, likewise."""

    name: str
    seconds: float
    start: float
    share: float


def steps_of(summary: BuildSummary) -> tuple[Step, ...]:
    """In their order, those that took a time one can name."""
    taken = [(name, seconds) for name, seconds in summary.steps.items() if seconds >= _SHORTEST]
    whole = sum(seconds for _, seconds in taken) or 1.0
    rows, start = [], 0.0
    for name, seconds in taken:
        rows.append(Step(name, seconds, start / whole, seconds / whole))
        start += seconds
    return tuple(rows)


def sentences(t: Say, status: BuildStatus) -> list[str]:
    """A few lines that say where the time and the bytes went, the weightiest first."""
    summary = status.summary
    if summary is None or status.finished is None:
        return []
    return [*_times(t, status, summary), *_bytes(t, summary)]


def _times(t: Say, status: BuildStatus, summary: BuildSummary) -> list[str]:
    steps = steps_of(summary)
    worked = sum(step.seconds for step in steps)
    waited = (status.finished or 0) - status.created - worked
    said = []
    if worked >= _WORTH_A_WORD:
        most = max(steps, key=lambda step: step.seconds)
        taken, whole = humane.lasted(t, most.seconds), humane.lasted(t, worked)
        said.append(t("builds.cost.step", taken=taken, whole=whole, step=t(f"builds.step.{most.name}")))
    slowest = next((layer for layer in status.layers if layer.name == summary.slowest), None)
    if slowest is not None and slowest.seconds >= _WORTH_A_WORD:
        said.append(t("builds.cost.layer", layer=slowest.name, taken=humane.lasted(t, slowest.seconds)))
    if waited >= _WORTH_A_WORD:
        said.append(t("builds.cost.waited", taken=humane.lasted(t, waited)))
    return said


def _bytes(t: Say, summary: BuildSummary) -> list[str]:
    kinds = ("fetched", "built", "uploaded", "mounted", "reused")
    return [
        t(f"builds.cost.{kind}", size=humane.size(getattr(summary, kind))) for kind in kinds if getattr(summary, kind)
    ]
