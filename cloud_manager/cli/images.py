"""`cloud-deploy image` and `dockerfile`: what is in an image, told by the builder that made it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import quote

import typer
from rich.console import Console
from rich.filesize import decimal
from rich.table import Table
from rich.text import Text

from cloud_manager.cli.builder_api import Builder
from cloud_manager.cli.client import Json
from cloud_manager.cli.options import AsJson, BuilderUrl, builder, print_json
from cloud_manager.errors import DeployError

Build = Annotated[str, typer.Argument(metavar="BUILD", help="A build's id, 32 hex digits.")]
Image = Annotated[
    str, typer.Argument(metavar="DIGEST|BUILD", help="An image's sha256:…, or the id of the build that made it.")
]
Sbom = Annotated[
    Literal["cyclonedx"] | None,
    typer.Option("--sbom", help="Print the bill of materials in this format instead.", show_default=False),
]
Context = Annotated[
    Path | None,
    typer.Option(
        "--context", metavar="FILE", help="Write the whole build context there, as a tar.", show_default=False
    ),
]


def image(what: Image, sbom: Sbom = None, url: BuilderUrl = None, as_json: AsJson = False) -> None:
    """What is in an image: layers, python packages with hashes and licenses, how it runs."""
    with builder(url) as opened:
        where = f"/images/{_digest(opened, what)}"
        if sbom:
            typer.echo(opened.get_text(f"{where}/sbom", format=sbom), nl=False)
            return
        found = opened.get(where)
    if as_json:
        print_json(found)
    else:
        _show(found)


def dockerfile(build: Build, context: Context = None, url: BuilderUrl = None, as_json: AsJson = False) -> None:
    """The Dockerfile that builds the same program with any engine; alone, or with its whole build context."""
    where = f"/builds/{quote(build, safe='')}/dockerfile"
    with builder(url) as opened:
        if context is not None:
            _write(opened, where, context)
            done = {"context": str(context)}
        else:
            done = {"dockerfile": opened.get_text(where)}
    if as_json:
        print_json(done)
    elif context is not None:
        typer.echo(f"{context}: docker build - < {context}")
    else:
        typer.echo(done["dockerfile"], nl=False)


def _digest(opened: Builder, what: str) -> str:
    if what.startswith("sha256:"):
        return quote(what, safe=":")
    build = opened.get(f"/builds/{quote(what, safe='')}")
    if build["image"] is None:
        raise DeployError(f"the build has no image, it is {build['state']}", "Name a build that succeeded.")
    return str(build["image"]["digest"])


def _write(opened: Builder, where: str, file: Path) -> None:
    try:
        opened.download(where, file, format="tar")
    except OSError as error:
        raise DeployError(
            f"cannot write {file}: {error.strerror or error}", "Name a file that you can write."
        ) from error


def _show(found: Json) -> None:
    out = Console() if sys.stdout.isatty() else Console(width=400)
    rows = {
        "image": found["digest"],
        "size": f"{decimal(found['size'])} in {len(found['layers'])} layers",
        "platform": found["platform"],
        "base": found["base"] or "none",
        "runs": " ".join(found["entrypoint"]),
        "in": found["workdir"],
        "ports": " ".join(found["ports"]),
        "sets": " ".join(found["env"]),
    }
    for name, text in rows.items():
        out.print(f"{name:<9}{text}", markup=False, highlight=False)
    out.print(_table("LAYER", "KIND", "SIZE", "DIGEST", rows=[_layer(layer) for layer in found["layers"]]))
    if found["packages"] is None:
        out.print("its packages were not written down when it was built")
    elif found["packages"]:
        packages = [_package(package) for package in found["packages"]]
        out.print(_table("PACKAGE", "VERSION", "LICENSE", "WHEEL SHA256", rows=packages))


def _layer(layer: Json) -> tuple[str, str, str, str]:
    return layer["title"], layer["kind"] or "-", decimal(layer["size"]), layer["digest"]


def _package(package: Json) -> tuple[str, str, str, str]:
    return package["name"], package["version"], package["license"] or "-", package["sha256"]


def _table(*names: str, rows: list[tuple[str, str, str, str]]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in names:
        table.add_column(name, overflow="fold", justify="right" if name == "SIZE" else "left")
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    return table
