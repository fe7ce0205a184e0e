"""`cloud-deploy gc`: clear the builder's cache down to its bound, or see what would go."""

from __future__ import annotations

import sys
from datetime import datetime
from typing import Annotated

import typer
from rich.console import Console
from rich.filesize import decimal
from rich.table import Table
from rich.text import Text

from cloud_manager.cli.client import Json
from cloud_manager.cli.options import AsJson, BuilderUrl, builder, print_json

DryRun = Annotated[bool, typer.Option("--dry-run", help="Show what would go, and remove nothing.")]
Verify = Annotated[bool, typer.Option("--verify", help="Read all blobs and wheels too; what is corrupt goes.")]


def gc(dry_run: DryRun = False, verify: Verify = False, url: BuilderUrl = None, as_json: AsJson = False) -> None:
    """Clear the image builder's cache down to CACHE_MAX_BYTES, least recently used first; it also does so by itself."""
    with builder(url) as opened:
        done = opened.post("/gc", dry_run=dry_run, verify=verify)
    if as_json:
        print_json(done)
        return
    out = Console() if sys.stdout.isatty() else Console(width=400)
    if done["gone"]:
        out.print(_table(done["gone"]))
    out.print(summary(done), markup=False, highlight=False)


def summary(done: Json) -> str:
    """One or two lines: how much, of how much, and whether that is enough. Pure."""
    would = "would be " if done["dry_run"] else ""
    bound = f"CACHE_MAX_BYTES is {decimal(done['bound'])}" if done["bound"] else "CACHE_MAX_BYTES sets no bound"
    freed = decimal(max(done["before"] - done["after"], 0))
    lines = [f"{freed} {would}freed, {decimal(done['after'])} {would}kept; {bound}"]
    if done["verified"]:
        corrupt = sum(thing["why"] == "corrupt" for thing in done["gone"])
        lines.append(f"{done['verified']} blobs and wheels were read, {corrupt or 'none'} of them corrupt")
    if done["bound"] and done["after"] > done["bound"]:
        lines.append("the rest is in use; it is looked at again after each build")
    return "\n".join(lines)


def _table(things: list[Json]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("KIND", "SIZE", "LAST USED", "WHY", "NAME"):
        table.add_column(name, overflow="fold", justify="right" if name == "SIZE" else "left")
    for thing in things:
        used = datetime.fromtimestamp(thing["used"]).astimezone().strftime("%Y-%m-%d %H:%M")
        cells = (thing["kind"], decimal(thing["size"]), used, thing["why"], thing["name"])
        table.add_row(*(Text(cell) for cell in cells))
    return table
