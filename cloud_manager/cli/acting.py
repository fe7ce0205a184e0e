"""What the commands about one project share: their arguments, the call that acts, and how its end is told."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import typer
from rich.console import Console

from cloud_manager.cli import complete, follow, render
from cloud_manager.cli.client import Json, Manager
from cloud_manager.cli.options import own_token, print_json, tell
from cloud_manager.settings import ClientSettings

User = Annotated[
    str,
    typer.Argument(metavar="USER", help="user_id, a folder under SHARED_ROOT/common.", autocompletion=complete.users),
]
Project = Annotated[
    str,
    typer.Argument(metavar="PROJECT", help="project_id, a folder of the user.", autocompletion=complete.projects),
]
Url = Annotated[str | None, typer.Option("--url", help="The manager; else CLOUD_MANAGER_URL.", show_default=False)]
Wait = Annotated[bool, typer.Option("--wait", help="Show the progress and wait for the end.")]


def manager(url: str | None) -> Manager:
    settings = ClientSettings()
    return Manager(url or settings.cloud_manager_url, own_token(), language=settings.language)


def act(
    manager: Manager,
    call: Callable[[str, str], Json],
    user: str,
    project: str,
    rest: Callable[[Json], bool] | None,
) -> Json:
    """Ask for something; with `rest`, follow the project on stderr until it holds."""
    if rest is None:
        return call(user, project)
    after = follow.last_sequence(manager, user, project)
    row = call(user, project)
    with follow.Follower(manager, user, project, Console(stderr=True), after=after) as follower:
        return follower.until_rest(row["generation"], rest)


def show_result(row: Json, as_json: bool, *, done: str) -> None:
    if as_json:
        print_json(row)
    elif row["phase"] == "failed" and row["problem"]:
        tell(render.problem(row["problem"]))
    else:
        typer.echo(done)


def console() -> Console:
    """Of a terminal's width; where the output goes into a file or pipe, wide, so that no line is folded."""
    made = Console()
    return made if made.is_terminal else Console(width=400)
