"""Following a deployment until it rests: events as lines, the build as bars."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

from rich.console import Console

from cloud_manager.cli import render
from cloud_manager.cli.bars import BuildBars
from cloud_manager.cli.client import Json, Manager, ManagerUnreachable
from cloud_manager.errors import DeployError

PERIOD = 0.4  # seconds between two looks; a person sees it as live, and it costs the manager next to nothing
PATIENCE = 30.0  # seconds for which a manager may be away, e.g. restarting


class Follower:
    """Prints what happens to one project. `look` asks once; `until_rest` asks again and again."""

    def __init__(self, manager: Manager, user: str, project: str, console: Console, *, after: int = 0) -> None:
        self._manager, self._user, self._project = manager, user, project
        self._console = console
        self._after = after
        self._bars = BuildBars(console)

    def __enter__(self) -> Follower:
        self._bars.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._bars.__exit__(None, None, None)

    def look(self) -> Json:
        """The deployment as it is, after its new events were printed."""
        row = self._manager.deployment(self._user, self._project)
        self._bars.show(row["build"])
        for event in self._manager.events(self._user, self._project, after=self._after):
            self._after = event["sequence"]
            self._console.print(render.event(event), markup=False, highlight=False, soft_wrap=True)
        return row

    def until_rest(self, generation: int, rest: Callable[[Json], bool]) -> Json:
        """Look until `rest` holds for this generation or a newer one. A manager that restarts is waited for."""
        patience = Patience()
        while True:
            with patience:
                row = self.look()
                if row["generation"] >= generation and rest(row):
                    return row
            pause()


class Patience:
    """`with patience:` forgives a manager that is away, until it has been away for too long."""

    def __init__(self, seconds: float = PATIENCE) -> None:
        self._seconds = seconds
        self._away_since: float | None = None

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> bool:
        if not isinstance(error, ManagerUnreachable):
            self._away_since = None
            return False
        self._away_since = self._away_since or time.monotonic()
        return time.monotonic() - self._away_since < self._seconds


def pause() -> None:
    time.sleep(PERIOD)


def events_for_ever(manager: Manager, user: str, project: str, *, after: int) -> Iterator[Json]:
    """Events above `after` as they come; a manager that restarts is found again, and nothing is missed."""
    patience = Patience()
    while True:
        with patience:
            for event in manager.follow_events(user, project, after=after):
                after = event["sequence"]
                yield event
        pause()


def last_sequence(manager: Manager, user: str, project: str) -> int:
    """Of the newest event there is, so that only what comes after it is shown; 0 for an unknown project."""
    after = 0
    try:
        while page := manager.events(user, project, after=after):
            after = page[-1]["sequence"]
    except ManagerUnreachable:
        raise
    except DeployError:
        return 0  # never started: there is no history yet
    return after


def is_up_or_failed(row: Json) -> bool:
    """`running` counts only once the manager has compared the newest wish with what runs."""
    if row["phase"] == "running":
        return bool(row.get("settled_generation", row["generation"]) >= row["generation"])
    return row["phase"] in ("failed", "stopped")


def is_down(row: Json) -> bool:
    return row["phase"] in ("stopped", "failed")
