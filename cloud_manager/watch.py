"""What the controller tells of its work to whoever counts it. `metrics.Metrics` does."""

from __future__ import annotations

from typing import Protocol


class Watch(Protocol):
    """Called on the event loop; returns at once, raises nothing."""

    def step(self, outcome: str, seconds: float, late: float) -> None:
        """One step of one project. outcome: `done`, `overtaken`, `lost`, `cut`. late: seconds after it was due."""
        ...

    def problem(self, code: str, *, final: bool) -> None:
        """A step ran into a problem; it is tried again unless it is final."""
        ...


class Unwatched:
    def step(self, outcome: str, seconds: float, late: float) -> None:
        pass

    def problem(self, code: str, *, final: bool) -> None:
        pass
