"""`cloud-deploy revisions` and `rollback`: what ran well, and the way back to it."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import Annotated

import typer
from rich.table import Table

from cloud_manager.cli import acting, follow
from cloud_manager.cli.acting import Project, Url, User, Wait
from cloud_manager.cli.client import Json
from cloud_manager.cli.options import AsJson, print_json, tell
from cloud_manager.cli.render import clock_time


def revisions(user: User, project: Project, url: Url = None, as_json: AsJson = False) -> None:
    """What ran well of a project, the newest first; `*` marks what is wanted now."""
    with acting.manager(url) as manager:
        rows = manager.revisions(user, project)
    if as_json:
        print_json(rows)
    elif rows:
        acting.console().print(_table(rows))
    else:
        tell("nothing of this project has run well yet")


def rollback(  # noqa: PLR0913, PLR0917 - each is an option of the command
    user: User,
    project: Project,
    to: Annotated[
        str | None,
        typer.Option("--to", metavar="REVISION", help="Which, or its first letters; else the last good one before."),
    ] = None,
    wait: Wait = False,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Run an earlier revision again, spec and image as they were; `start` later deploys the files as they are then."""
    with acting.manager(url) as manager:
        call = partial(manager.rollback, to=to)
        row = acting.act(manager, call, user, project, follow.is_up_or_failed if wait else None)
    acting.show_result(row, as_json, done=f"running at {row['url']}" if row["phase"] == "running" else row["phase"])
    if wait and row["phase"] != "running":
        raise SystemExit(1)


def _table(rows: Iterable[Json]) -> Table:
    shown = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("", "REVISION", "GENERATION", "TARGET", "SINCE", "UNTIL", "IMAGE"):
        shown.add_column(name, overflow="fold")
    for row in rows:
        shown.add_row(
            "*" if row["wanted"] else "",
            row["revision"],
            str(row["generation"]),
            row["target"] or "-",
            clock_time(row["since"]),
            clock_time(row["until"]) if row["until"] is not None else "-",
            _image(row),
        )
    return shown


def _image(row: Json) -> str:
    return str(row["image"]["digest"][:19]) if row["image"] else str(row["resolved_uri"] or row["image_uri"])
