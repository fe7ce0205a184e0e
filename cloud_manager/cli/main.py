"""`cloud-deploy`: the command line. Exit status: 0 done, 1 the thing asked about failed, 2 usage, 3 no answer."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from cloud_manager.cli import (
    build,
    cache,
    complete,
    follow,
    images,
    init,
    preflight,
    render,
    revisions,
    up,
    validate,
    watch,
)
from cloud_manager.cli.acting import Project, Url, User, Wait, act, console, show_result
from cloud_manager.cli.acting import manager as new_manager
from cloud_manager.cli.builder_api import BuilderUnreachable
from cloud_manager.cli.client import Json, ManagerUnreachable
from cloud_manager.cli.options import AsJson, own_words, print_json, tell
from cloud_manager.errors import DeployError
from cloud_manager.settings import Settings

FAILED, UNREACHABLE, INTERRUPTED = 1, 3, 130

EXIT_CODES = """
Exit status: 0 done; 1 what was asked about is wrong or failed; 2 the command is not right; 3 the service called does
not answer.
"""

app = typer.Typer(
    name="cloud-deploy",
    help="One deployment.yaml becomes a running service.",
    epilog=EXIT_CODES,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)

Follow = Annotated[bool, typer.Option("--follow", "-f", help="Go on with what comes, until Ctrl-C.")]


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of the console script; ends with SystemExit."""
    with failures_told(), up.interruptible():
        app(arguments)


@contextmanager
def failures_told() -> Iterator[None]:
    """Errors as two lines on stderr, and the exit status that belongs to them."""
    try:
        yield
    except (ManagerUnreachable, BuilderUnreachable) as error:
        tell(render.problem(own_words().problem(error.problem).model_dump()))
        raise SystemExit(UNREACHABLE) from None
    except DeployError as error:
        tell(render.problem(own_words().problem(error.problem).model_dump()))
        raise SystemExit(FAILED) from None
    except KeyboardInterrupt:
        raise SystemExit(INTERRUPTED) from None
    except BrokenPipeError:  # `cloud-deploy logs … | head`
        sys.stderr.close()  # python would complain once more while it ends
        raise SystemExit(0) from None


# --- without a manager ------------------------------------------------------------------------------------------


@app.command("up")
def up_command(
    shared_root: Annotated[Path | None, typer.Option(help="Folder with common/USER/PROJECT; else SHARED_ROOT.")] = None,
    state_dir: Annotated[Path | None, typer.Option(help="Database, images, logs; else STATE_DIR.")] = None,
    ports: Annotated[
        str | None, typer.Option(metavar="MANAGER:BUILDER[:GUI]", help="Ports on loopback; 0 is any free one.")
    ] = None,
    local: Annotated[
        bool, typer.Option("--local", help="Allow `deploy.type: local`: programs run as you, unconfined.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Start the image builder and the manager on this machine; Ctrl-C stops both."""
    places = _places(shared_root, state_dir, ports, local)
    with up.running(places, tell) as pair:
        if as_json:
            print_json(_addresses(places))
        else:
            typer.echo(_where(places))
        try:
            pair.watch()
        except KeyboardInterrupt:
            tell("\nstopping the manager and the builder …")
    tell(
        "stopped. Services of the local target go on running; to stop one: start `cloud-deploy up` again with the "
        "same folders, then `cloud-deploy stop USER PROJECT`."
    )


@app.command("validate")
def validate_command(
    path: Annotated[Path, typer.Argument(help="A deployment.yaml, or the project folder that holds one.")],
    files: Annotated[bool, typer.Option("--files", help="Also check that the files it names exist beside it.")] = False,
    as_json: AsJson = False,
) -> None:
    """Judge a deployment.yaml; needs no manager. Each finding is one line: file:line:column: path: message."""
    verdict = validate.judge(path, files=files).told(own_words())
    if as_json:
        print_json(verdict.as_json())
    else:
        for note in verdict.notes:
            typer.echo(f"note: {note}")
        for finding in verdict.findings:
            typer.echo(str(finding))
    if verdict.findings:
        raise SystemExit(FAILED)
    if not as_json:
        typer.echo(f"{verdict.file}: good")


app.command()(init.init)
app.command()(preflight.preflight)

# --- with a manager ---------------------------------------------------------------------------------------------


@app.command()
def start(user: User, project: Project, wait: Wait = False, url: Url = None, as_json: AsJson = False) -> None:
    """Make a project run as its deployment.yaml says; repeating it with the same file changes nothing."""
    with new_manager(url) as manager:
        row = act(manager, manager.start, user, project, follow.is_up_or_failed if wait else None)
    show_result(row, as_json, done=f"running at {row['url']}" if row["url"] else row["phase"])
    if wait and row["phase"] != "running":
        raise SystemExit(FAILED)


@app.command()
def stop(user: User, project: Project, wait: Wait = False, url: Url = None, as_json: AsJson = False) -> None:
    """Stop a project and remove what runs of it; repeating it is harmless."""
    with new_manager(url) as manager:
        row = act(manager, manager.stop, user, project, follow.is_down if wait else None)
    show_result(row, as_json, done=row["phase"])
    if wait and row["phase"] != "stopped":
        raise SystemExit(FAILED)


app.command()(revisions.revisions)
app.command()(revisions.rollback)


@app.command()
def status(
    user: Annotated[
        str | None, typer.Argument(metavar="[USER", show_default=False, autocompletion=complete.users)
    ] = None,
    project: Annotated[
        str | None, typer.Argument(metavar="PROJECT]", show_default=False, autocompletion=complete.projects)
    ] = None,
    watching: Annotated[bool, typer.Option("--watch", "-w", help="Go on showing it, until Ctrl-C.")] = False,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """How far all projects are, or one of them; with one, exit status 1 if it has failed."""
    if user is not None and project is None:
        raise typer.BadParameter("give USER and PROJECT, or neither")
    with new_manager(url) as manager:

        def look() -> list[Json]:
            return [manager.deployment(user, project)] if user and project else manager.deployments()

        if watching:
            watch.watch_json(look) if as_json else watch.watch(look, console())
            return
        rows = look()
    if as_json:
        print_json(rows[0] if user else rows)
    elif rows:
        console().print(render.table(rows))
        for row in rows:
            if row["problem"]:
                tell(render.problem(row["problem"]))
    else:
        tell("no project was ever started here")
    if user and rows[0]["phase"] == "failed":
        raise SystemExit(FAILED)


@app.command()
def logs(  # noqa: PLR0913, PLR0917 - each is an option of the command
    user: User,
    project: Project,
    following: Follow = False,
    tail: Annotated[int, typer.Option("--tail", "-n", min=1, max=10_000, help="Begin with the last lines.")] = 200,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """What the service itself has written; with --json one object per line."""
    show: Callable[[str], str] = (lambda line: json.dumps({"line": line}, ensure_ascii=False)) if as_json else str
    with new_manager(url) as manager:
        if following:
            lines = manager.follow_logs(user, project, tail=tail)
        else:
            text = manager.logs(user, project, tail=tail)
            lines = iter(text.removesuffix("\n").split("\n") if text else ())
        for line in lines:
            typer.echo(show(line))


@app.command()
def events(user: User, project: Project, following: Follow = False, url: Url = None, as_json: AsJson = False) -> None:
    """What happened to a project, oldest first; with --json one object per line."""
    show: Callable[[Json], str] = json.dumps if as_json else render.event
    with new_manager(url) as manager:
        after = 0
        while page := manager.events(user, project, after=after):
            for event in page:
                typer.echo(show(event))
            after = page[-1]["sequence"]
        for event in follow.events_for_ever(manager, user, project, after=after) if following else ():
            typer.echo(show(event))


@app.command()
def schema(url: Url = None) -> None:
    """The JSON Schema of deployment.yaml; from the manager with --url, else from this version."""
    if url is None:
        print_json(validate.schema())
        return
    with new_manager(url) as manager:
        print_json(manager.schema())


# --- with an image builder --------------------------------------------------------------------------------------

app.command()(build.build)
app.command()(images.image)
app.command()(images.dockerfile)
app.command()(cache.gc)


# --- parts ------------------------------------------------------------------------------------------------------


def _places(shared_root: Path | None, state_dir: Path | None, ports: str | None, local: bool) -> up.Places:
    settings = Settings()
    manager_port, builder_port, web_port = _ports(ports) if ports else (settings.cloud_manager_port, 7007, 0)
    return up.settled(
        up.Places(
            (shared_root or settings.shared_root).absolute(),
            (state_dir or settings.state_dir).absolute(),
            manager_port,
            builder_port,
            local,
            web_port,
        )
    )


def _ports(text: str) -> tuple[int, int, int]:
    """Of manager, builder and GUI; 0 where none is given for the GUI."""
    ports = [int(port) if port.isdecimal() else -1 for port in text.split(":")]
    if len(ports) not in (2, 3) or not all(0 <= port <= 65535 for port in ports):
        raise typer.BadParameter("write two or three ports, e.g. 8890:7007:8080", param_hint="--ports")
    return ports[0], ports[1], ports[2] if len(ports) == 3 else 0


def _addresses(places: up.Places) -> Json:
    return {
        "manager": places.manager_url,
        "builder": places.builder_url,
        "shared_root": str(places.shared_root),
        "state_dir": str(places.state_dir),
    }


def _where(places: up.Places) -> str:
    return "\n".join(
        (
            f"GUI             {places.web_url}",
            f"cloud manager   {places.manager_url}   API docs {places.manager_url}/docs",
            f"image builder   {places.builder_url}   API docs {places.builder_url}/docs",
            f"projects        {places.shared_root}/common/USER/PROJECT/deployment.yaml",
            f"state and logs  {places.state_dir}",
            f"local target    {'on: programs run as you, unconfined' if places.local else 'off (--local allows it)'}",
            "Ctrl-C stops both.",
        )
    )


if __name__ == "__main__":
    main()
