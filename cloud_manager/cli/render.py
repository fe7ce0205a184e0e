"""How answers of the manager look in a terminal. Values are the JSON of `/api/v1`."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from rich.table import Table
from rich.text import Text

from cloud_manager.cli.client import Json
from image_builder.contract import RESTING

COLOURS = {"running": "green", "failed": "red", "stopped": "dim", "stopping": "yellow"}
_ONE_LINE = " ".join


def table(rows: Iterable[Json]) -> Table:
    """Deployments, one line each; what is wrong stands under the table (see `problems`)."""
    shown = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("PROJECT", "STATUS", "TARGET", "UPDATED", "URL", "DETAIL"):
        shown.add_column(name, overflow="fold")
    for row in rows:
        shown.add_row(
            f"{row['user_id']}/{row['project_id']}",
            Text(row["phase"], COLOURS.get(row["phase"], "cyan")),
            row["target"] or "-",
            clock_time(row["updated"]),
            row["url"] or "-",
            detail(row),
        )
    return shown


def detail(row: Json) -> str:
    """What is under way: the build's step and how many of its layers are there; else the manager's own words."""
    build = row.get("build")
    if row["phase"] == "building" and build:
        layers = build["layers"]
        ready = sum(layer["state"] in RESTING for layer in layers)
        return f"{build['step']}, {ready} of {len(layers)} layers" if layers else str(build["step"])
    if row["problem"]:
        return str(row["problem"]["code"])
    return one_line(row["detail"] or "")


def problem(value: Json) -> str:
    """Two lines, or three when there are log lines to show."""
    return f"error: {value['cause']}\nfix: {value['fix']}"


def event(value: Json) -> str:
    """One line: time, kind, message, and the fix where something went wrong."""
    line = f"{clock_time(value['time'])}  {value['kind']:<8} {one_line(value['message'])}"
    fix = (value.get("problem") or {}).get("fix")
    return f"{line}  ({one_line(fix)})" if fix and fix not in value["message"] else line


def clock_time(unix: float) -> str:
    """Local time of this machine; with the date, if it is not today's."""
    then, today = datetime.fromtimestamp(unix).astimezone(), datetime.now().astimezone().date()
    return then.strftime("%H:%M:%S" if then.date() == today else "%Y-%m-%d %H:%M:%S")


def one_line(text: str) -> str:
    return _ONE_LINE(text.split())
