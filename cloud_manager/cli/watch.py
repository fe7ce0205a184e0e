"""`cloud-deploy status --watch`: how it is, as long as one looks."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence

import typer
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from cloud_manager.cli import follow, render
from cloud_manager.cli.client import Json

_ORDER = ("failed", "started", "building", "preparing", "stopping", "running", "stopped")
_OTHER_LINES = 3
"""Of the terminal: the head, the line below, the prompt."""
_SHARE = 10
"""A look at thousands of projects takes time; the manager is asked no more than a tenth of it."""

Look = Callable[[], list[Json]]


def watch(look: Look, console: Console) -> None:
    """A live table until Ctrl-C, which is the way out and no failure. A manager that restarts is waited for."""
    patience = follow.Patience()
    try:
        with Live(screen_of(look(), console.height), console=console, auto_refresh=False) as live:
            while True:
                began = time.monotonic()
                with patience:
                    live.update(screen_of(look(), console.height), refresh=True)
                time.sleep(max(follow.PERIOD, (time.monotonic() - began) * _SHARE))
    except KeyboardInterrupt:
        return


def watch_json(look: Look) -> None:
    """Each project as it is, one object per line, then again whenever it has changed; until Ctrl-C."""
    patience, known = follow.Patience(), dict[tuple[str, str], Json]()
    try:
        while True:
            began = time.monotonic()
            with patience:
                for row in look():
                    key = (row["user_id"], row["project_id"])
                    if known.get(key) != row:
                        known[key] = row
                        typer.echo(json.dumps(row, ensure_ascii=False))
            time.sleep(max(follow.PERIOD, (time.monotonic() - began) * _SHARE))
    except KeyboardInterrupt:
        return


def screen_of(rows: Sequence[Json], height: int) -> RenderableType:
    """What fits: what needs a person first, what is at rest last, and how many are not shown."""
    room = max(height - _OTHER_LINES, 1)
    ordered = sorted(rows, key=_rank)
    shown, left = ordered[:room], ordered[room:]
    if not rows:
        return Text("no project was ever started here", "dim")
    if not left:
        return render.table(shown)
    kinds = {phase: sum(row["phase"] == phase for row in left) for phase in _ORDER}
    words = ", ".join(f"{count} {phase}" for phase, count in kinds.items() if count)
    return Group(render.table(shown), Text(f"… and {len(left)} more: {words}", "dim"))


def _rank(row: Json) -> tuple[int, float]:
    return _ORDER.index(row["phase"]) if row["phase"] in _ORDER else -1, -row["updated"]
