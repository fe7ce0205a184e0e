"""`cloud-deploy preflight`: what stands in the way, before anything is spent, with the commands that mend it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from cloud_manager import deployment_yaml
from cloud_manager.builder_client import BuilderClient
from cloud_manager.cli.acting import console
from cloud_manager.cli.client import Manager
from cloud_manager.cli.options import AsJson, own_token, own_words, print_json
from cloud_manager.clock import SystemClock
from cloud_manager.deployment_spec import DeploymentSpec
from cloud_manager.preflight import Check, Report
from cloud_manager.preflights import Preflights
from cloud_manager.settings import Settings
from cloud_manager.targets.catalog import Catalog

FAILED = 1
_FILE = "deployment.yaml"
_COLOURS = {"passed": "green", "failed": "red", "skipped": "yellow"}
_SIGNS = {"passed": "✓", "failed": "✗", "skipped": "-"}
_PLAIN = {"passed": "+", "failed": "x", "skipped": "-"}
"""Where the terminal has no Unicode."""


def preflight(
    path: Annotated[
        Path | None,
        typer.Argument(help="A deployment.yaml or its folder: it is asked about; else the settings are.", exists=True),
    ] = None,
    target: Annotated[
        str | None, typer.Option("--target", help="As deploy.type; else the file's, else gcp-cloudrun.")
    ] = None,
    url: Annotated[
        str | None, typer.Option("--url", help="Let this manager ask, with its own credentials; without PATH.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Ask, before anything is spent, whether a deployment can succeed; nothing is created or changed.

    Asked with the settings and credentials of this shell. Exit status 1 if a check has failed.
    """
    if url is not None and path is not None:
        raise typer.BadParameter("the manager reads projects, not files of this machine: give PATH or --url")
    report = _asked_of(url, target) if url is not None else asyncio.run(_asked_here(_spec(path), target))
    if as_json:
        print_json(report.model_dump(mode="json"))
    else:
        show(report, console())
    if not report.ok:
        raise SystemExit(FAILED)


def show(report: Report, screen: Console) -> None:
    """A line for each check; under those that did not pass, how to mend it. Commands are said once, never folded."""
    said: set[str] = set()
    wide = max((len(check.name) for check in report.checks), default=0)
    for check in report.checks:
        _show_check(check, wide, screen)
        _show_commands([command for command in check.commands if command not in said], screen)
        said.update(check.commands)
    counts = {outcome: sum(check.outcome == outcome for check in report.checks) for outcome in _COLOURS}
    told = ", ".join(f"{count} {outcome}" for outcome, count in counts.items() if count)
    screen.print(Text(f"{report.target}: {told}", style="bold"))


def _show_check(check: Check, wide: int, screen: Console) -> None:
    signs = _SIGNS if screen.encoding.startswith("utf") else _PLAIN
    sign, colour = signs[check.outcome], _COLOURS[check.outcome]
    line = Text.assemble(
        (sign, colour), f" {check.name:<{wide}}  ", (check.cause, "dim" * (check.outcome == "skipped"))
    )
    screen.print(line, soft_wrap=True)
    if check.fix:
        screen.print(Text(f"{'':<{wide + 4}}{check.fix}"), soft_wrap=True)


def _show_commands(commands: Sequence[str], screen: Console) -> None:
    for command in commands:
        # As it is, from the first column to the last: a folded line cannot be copied.
        screen.print(Text(f"      {command}", style="cyan"), soft_wrap=True)


def _spec(path: Path | None) -> DeploymentSpec | None:
    """Raises InvalidSpec, with every finding."""
    if path is None:
        return None
    file = path / _FILE if path.is_dir() else path
    return deployment_yaml.load(file, display=str(file)).spec


async def _asked_here(spec: DeploymentSpec | None, target: str | None) -> Report:
    settings, clock = Settings(), SystemClock()
    builder = BuilderClient(settings.image_builder_url, own_token())
    catalog = Catalog(settings, builder, clock)
    try:
        return await Preflights(settings, catalog, builder).run(spec, target)
    finally:
        await catalog.aclose()
        await builder.aclose()


def _asked_of(url: str, target: str | None) -> Report:
    with Manager(url, own_token(), language=own_words().language) as manager:
        return Report.model_validate(manager.preflight(target))
