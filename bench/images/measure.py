"""Every scenario of every candidate, each in a registry of its own that has the base and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

from bench.images.meter import Figures, Meter, Watched
from bench.images.ours import Ours
from bench.images.registry import Registry, serving
from bench.images.workload import AGAIN, EMPTY, SCENARIOS, Project, Workload, make_workload

Tell = Callable[[str], None]


class Candidate(Protocol):
    """A builder. RuntimeError from any of these: why it could not."""

    name: str

    @property
    def version(self) -> str: ...

    def ready(self, registry: Registry, shared: Path) -> AbstractContextManager[Watched]:
        """With the base there and its caches empty, until the end of the round; what it made is gone then."""

    def build(self, project: Project, scenario: str) -> None:
        """Build the project's image and push it as <registry>/<project.name>:latest."""


@dataclass
class Results:
    """(candidate, scenario) -> figures by round; the same for the seconds of our steps; why a candidate has none."""

    figures: dict[tuple[str, str], list[Figures]] = field(default_factory=dict)
    steps: dict[str, Mapping[str, float]] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)

    def add(self, candidate: str, scenario: str, figures: Figures) -> None:
        self.figures.setdefault((candidate, scenario), []).append(figures)


@dataclass(frozen=True)
class Setting:
    """seed: the blobs of a registry with the base. weights: bytes of each project's weights."""

    folder: Path
    seed: Path
    first: Sequence[str]
    second: Sequence[str]
    weights: int

    def workload(self) -> Workload:
        return make_workload(self.folder / "shared", self.first, self.second, self.weights)

    def registry(self) -> AbstractContextManager[Registry]:
        return serving(self.folder / "registry", self.seed)


def measure(candidates: Sequence[Candidate], setting: Setting, rounds: int, tell: Tell) -> Results:
    """Round by round, the candidates in turning order. One that fails is left out from then on."""
    results = Results()
    for number in range(rounds):
        for candidate in candidates if number % 2 == 0 else reversed(candidates):
            if candidate.name in results.failures:
                continue
            try:
                for scenario, figures in _round(candidate, setting, number):
                    results.add(candidate.name, scenario, figures)
                    if isinstance(candidate, Ours):
                        results.steps[scenario] = candidate.steps
                    tell(f"  {candidate.name}, {scenario}: {in_words(figures)}")
            except RuntimeError as error:
                results.failures[candidate.name] = str(error)
                tell(f"  {candidate.name}: {error}")
    return results


def _round(candidate: Candidate, setting: Setting, number: int) -> Iterator[tuple[str, Figures]]:
    workload, shared = setting.workload(), setting.folder / "shared"
    if isinstance(candidate, Ours):
        with setting.registry() as registry, candidate.empty(registry, shared) as watched:
            yield EMPTY, _timed(candidate, workload.first, EMPTY, registry, watched)
    with setting.registry() as registry:
        with candidate.ready(registry, shared) as watched:
            for scenario in SCENARIOS:
                yield scenario, _timed(candidate, workload.step(scenario, number), scenario, registry, watched)
        if isinstance(candidate, Ours):
            with candidate.empty(registry, shared) as watched:
                yield AGAIN, _timed(candidate, workload.first, AGAIN, registry, watched)


def _timed(candidate: Candidate, project: Project, scenario: str, registry: Registry, watched: Watched) -> Figures:
    before = registry.stored()
    with Meter(watched) as meter:
        candidate.build(project, scenario)
    return replace(meter.figures, sent=registry.stored() - before)


def measure_memory(ours: Ours, setting: Setting, sizes: Sequence[int]) -> dict[int, Figures]:
    """A first build with weights of so many bytes and no packages."""
    found = {}
    for size in sizes:
        workload = replace(setting, first=(), second=(), weights=0).workload()
        workload.first.reweigh(size)
        with (
            setting.registry() as registry,
            ours.empty(registry, setting.folder / "shared") as watched,
        ):
            found[size] = _timed(ours, workload.first, "cold", registry, watched)
    return found


def in_words(figures: Figures) -> str:
    return (
        f"{figures.seconds:.2f} s, CPU {figures.processor:.2f} s, memory {figures.memory / 1e6:.0f} MB, "
        f"sent {figures.sent / 1e6:.1f} MB"
    )
