"""`cloud-deploy init`: a first deployment.yaml, by a look at the project's folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cloud_manager import deployment_yaml
from cloud_manager.cli import validate
from cloud_manager.cli.options import AsJson, print_json, tell
from cloud_manager.draft import draft
from cloud_manager.errors import DeployError
from cloud_manager.survey import survey

Folder = Annotated[Path, typer.Argument(metavar="PATH", help="The project's folder.")]
Target = Annotated[str, typer.Option("--target", help="Where it shall run: local, docker, gcp-cloudrun …")]
Print = Annotated[bool, typer.Option("--print", help="Print the file instead of writing it.")]
Force = Annotated[bool, typer.Option("--force", help="Replace the deployment.yaml that is there.")]


def init(
    path: Folder = Path(),
    target: Target = "local",
    printed: Print = False,
    force: Force = False,
    as_json: AsJson = False,
) -> None:
    """Write a deployment.yaml by looking at a project: its programs, packages and weights. Needs no manager."""
    file = path / validate.FILE
    try:
        made = draft(survey(path), target)
        deployment_yaml.loads(made.text.encode())  # a --target that is no word is found here
        if not printed:
            _write(file, made.text, force)
    except OSError as error:
        raise DeployError(
            f"{error.filename or path}: {error.strerror}",
            "Name a project's folder that you may write.",
            code="no_folder",
        ) from error
    if as_json:
        print_json({"file": str(file), "written": not printed, "found": list(made.found), "text": made.text})
        return
    for line in made.found:
        tell(f"found: {line}")
    if printed:
        typer.echo(made.text, nl=False)
        return
    typer.echo(f"{file} is written. Read it; then: cloud-deploy validate --files {path}")


def _write(file: Path, text: str, force: bool) -> None:
    """Raises DeployError: there is one already, which nobody wants to lose."""
    try:
        with file.open("w" if force else "x", encoding="utf-8") as opened:
            opened.write(text)
    except FileExistsError as error:
        raise DeployError(
            f"{file} is there already",
            "Use --force to replace it, or --print to see what would be written.",
            code="exists",
        ) from error
