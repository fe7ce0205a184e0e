"""The layers of a build as bars: those in work, as many as fit, and one line for all of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from cloud_manager.cli.client import Json
from image_builder.contract import RESTING

_OTHER_LINES = 8
"""Of the terminal: what was said before stays in sight."""
_NAME = 32


@dataclass(frozen=True, slots=True)
class Bar:
    """done, total: bytes of the work in the present state; total None where it is not known."""

    name: str
    state: str
    done: int
    total: int | None

    @property
    def in_work(self) -> bool:
        return self.state not in (*RESTING, "waiting")


def bar_of(layer: Json) -> Bar:
    """What a layer of the API looks like."""
    ready = layer["state"] in RESTING
    total = (layer["size"] if ready else layer["total"]) or None
    return Bar(layer["name"], layer["state"], (total or 0) if ready else layer["done"], total)


def in_sight(bars: Sequence[Bar], lines: int) -> frozenset[str]:
    """Names of those that are shown where so many lines are free: all that fit, else the largest in work."""
    if len(bars) <= lines:
        return frozenset(bar.name for bar in bars)
    working = sorted((bar for bar in bars if bar.in_work), key=lambda bar: -(bar.total or 0))
    return frozenset(bar.name for bar in working[:lines])


def sum_of(bars: Sequence[Bar]) -> Bar:
    """One bar for all: how many layers are there, and the bytes that are known of."""
    ready = sum(bar.state in RESTING for bar in bars)
    total = sum(bar.total or 0 for bar in bars)
    return Bar(f"{ready} of {len(bars)} layers", "", sum(min(bar.done, bar.total or 0) for bar in bars), total or None)


class BuildBars:
    """A bar per layer of a build, with bytes and remaining time; shows nothing where the output is no terminal."""

    def __init__(self, console: Console) -> None:
        self._progress = Progress(
            TextColumn("  {task.description}"),
            BarColumn(bar_width=24),
            DownloadColumn(),
            TimeRemainingColumn(compact=True, elapsed_when_finished=True),
            TextColumn("{task.fields[state]}"),
            console=console,
            transient=True,
        )
        self._tasks: dict[str, TaskID] = {}
        self._sum: TaskID | None = None
        self._build: str | None = None

    def __enter__(self) -> BuildBars:
        if self._progress.console.is_terminal:
            self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._progress.console.is_terminal:
            self._progress.stop()

    def show(self, build: Json | None) -> None:
        """Take over the `build` of a deployment; a new build's layers replace the old one's."""
        if not build:
            return
        if build["id"] != self._build:
            self._clear()
            self._build = build["id"]
        bars = [bar_of(layer) for layer in build["layers"]]
        if not bars:
            return
        shown = in_sight(bars, max(self._progress.console.height - _OTHER_LINES, 3))
        for bar in bars:
            self._show(bar, visible=bar.name in shown)
        self._show_sum(sum_of(bars))

    def _show(self, bar: Bar, *, visible: bool) -> None:
        if bar.name not in self._tasks:
            name = f"{bar.name[:_NAME]:<{_NAME}}"
            self._tasks[bar.name] = self._progress.add_task(name, total=None, state=bar.state, start=False)
        task = self._tasks[bar.name]
        fields = self._progress.tasks[self._progress.task_ids.index(task)].fields
        if bar.in_work and fields["state"] != bar.state:  # another kind of work goes at another speed
            self._progress.reset(task, total=bar.total, state=bar.state)
        self._progress.update(task, completed=bar.done, total=bar.total, state=bar.state, visible=visible)

    def _show_sum(self, bar: Bar) -> None:
        if self._sum is None:
            self._sum = self._progress.add_task("", total=None, state="")
        words = f"[bold]{bar.name:<{_NAME}}[/]"
        self._progress.update(self._sum, description=words, completed=bar.done, total=bar.total)

    def _clear(self) -> None:
        for task in (*self._tasks.values(), *(() if self._sum is None else (self._sum,))):
            self._progress.remove_task(task)
        self._tasks.clear()
        self._sum = None
