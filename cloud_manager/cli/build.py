"""`cloud-deploy build`: an image from a project's folder, by the image builder alone."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.console import Console
from rich.filesize import decimal

from cloud_manager import deployment_yaml
from cloud_manager.build_request import build_request
from cloud_manager.cli import follow
from cloud_manager.cli.bars import BuildBars
from cloud_manager.cli.builder_api import Builder
from cloud_manager.cli.client import Json
from cloud_manager.cli.options import AsJson, BuilderUrl, builder, print_json
from cloud_manager.deployment import Deployment, Facts, Key, Phase, Want, digest_of
from cloud_manager.deployment_spec import LoadedSpec
from cloud_manager.errors import DeployError
from cloud_manager.project_files import program_of
from cloud_manager.settings import Settings
from cloud_manager.targets.target import BuildPlatform
from image_builder.contract import BuildRequest, Problem

Project = Annotated[Path, typer.Argument(metavar="PATH", help="A project folder below SHARED_ROOT.")]
Push = Annotated[
    str | None, typer.Option(metavar="IMAGE", help="Publish it there; else build.image_uri.", show_default=False)
]
Base = Annotated[
    str | None, typer.Option(metavar="IMAGE", help="The base image; else build.base_image.", show_default=False)
]
For = Annotated[Literal["linux/amd64", "linux/arm64"], typer.Option("--platform", help="What it shall run on.")]
Python = Annotated[str, typer.Option(metavar="X.Y", help="Version of python in the image.")]


def build(  # noqa: PLR0913, PLR0917 - each is an option of the command
    path: Project,
    push: Push = None,
    base: Base = None,
    platform: For = "linux/amd64",
    python: Python = "3.11",
    url: BuilderUrl = None,
    as_json: AsJson = False,
) -> None:
    """Build a project's image, publish it where asked, and say what that cost. Ctrl-C leaves the build."""
    request = _request(path, BuildPlatform(platform, python, base))
    if push is not None:
        request = request.model_copy(update={"push": push})
    with builder(url) as opened:
        status = _followed(opened, opened.post("/builds", request.model_dump(mode="json")), request.owner)
    if status["state"] != "succeeded":
        raise DeployError.of(Problem.model_validate(status["problem"] or _cancelled(status)))
    if as_json:
        print_json(status)
    else:
        typer.echo(result(status))


def result(status: Json) -> str:
    """Two lines: the image, and what it cost. Pure."""
    image, summary = status["image"], status["summary"] or {}
    words = [
        f"{word} {decimal(summary[word])}" for word in ("built", "reused", "mounted", "uploaded") if summary.get(word)
    ]
    seconds = sum((summary.get("steps") or {}).values())
    return f"{image['pushed'] or image['digest']}\n{', '.join(words) or 'nothing to do'}; {seconds:.1f} s"


def _request(path: Path, platform: BuildPlatform) -> BuildRequest:
    """What the manager would ask for, had the project just been started."""
    root, project = Settings().shared_root.resolve(), path.resolve()
    if project == root or not project.is_relative_to(root):
        raise DeployError(
            f"{path} is not below the shared root {root}, the folder that the image builder reads",
            "Put the project there, or set SHARED_ROOT to the folder with which the builder was started.",
            code="source_outside",
        )
    loaded = deployment_yaml.load(project / "deployment.yaml")
    if loaded.spec.prebuilt:
        raise DeployError(
            f"{path}/deployment.yaml names an image that is built already ({loaded.spec.build.image_uri})",
            "There is nothing to build; cloud-deploy start runs it.",
            code="prebuilt",
        )
    row = _row(loaded, Key("cli", project.relative_to(root).as_posix()))
    return build_request(row, loaded.spec, platform, program_of(project, loaded.spec, root))


def _row(loaded: LoadedSpec, key: Key) -> Deployment:
    return Deployment(
        key, Want.PRESENT, 1, loaded.spec, digest_of(loaded.spec), loaded.origins, Phase.STARTED, Facts(), 0, 0, 0, 0, 0
    )


def _followed(opened: Builder, status: Json, owner: str) -> Json:
    """The build once it is done; its layers as bars meanwhile, its words as lines."""
    console = Console(stderr=True)
    where, after, layers = f"/builds/{status['id']}", 0, {}
    try:
        with BuildBars(console) as bars:
            while status["state"] in ("queued", "running"):
                for event in opened.stream(f"{where}/events", after=after):
                    after = event["sequence"]
                    if event["layer"]:
                        layers[event["layer"]["name"]] = event["layer"]
                        bars.show({"id": status["id"], "layers": list(layers.values())})
                    elif event["kind"] in ("step", "log"):
                        console.print(event["message"], markup=False, highlight=False, soft_wrap=True)
                status = opened.get(where)
                if status["state"] in ("queued", "running"):
                    follow.pause()  # the builder is restarting; it goes on by itself
    except KeyboardInterrupt:
        opened.delete(where, owner=owner)
        raise
    return status


def _cancelled(status: Json) -> dict[str, Any]:
    cause = f"the build {status['id']} was cancelled"
    return {"cause": cause, "fix": "Start it again.", "code": "cancelled", "retryable": True}
