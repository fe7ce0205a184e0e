"""A planner and a pipeline that do what a test tells them, over a real OCI layout.

`python -m tests.fakes.pipeline STATE_DIR` serves them as the real builder would: each build notes `begin <id>` in
STATE_DIR/runs, waits until STATE_DIR/go exists, and notes `end <id>`.
"""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import io
import json
import sys
import tarfile
from collections.abc import Awaitable, Callable
from pathlib import Path

from image_builder import __main__ as service
from image_builder.build_queue import Maker
from image_builder.contract import BuildRequest, ImageReference, LayerProgress
from image_builder.folder_lock import folder_lock
from image_builder.job import Reporter
from image_builder.kept_image import MANIFEST_TYPE, is_whole
from image_builder.oci.layout import Layout
from image_builder.plan import BuildPlan
from image_builder.settings import Settings
from image_builder.workshop import Workshop

Work = Callable[[BuildPlan, Reporter], Awaitable[ImageReference]]


def request(owner: str = "", source: str = "common/7/42/nn_model", **more: object) -> BuildRequest:
    """Another program has another owner, unless one is named: an owner waits for one build at a time."""
    owner = owner or ("7/42" if source == "common/7/42/nn_model" else f"of {source}")
    return BuildRequest.model_validate({"owner": owner, "source": source, "entrypoint": ("python", "main.py"), **more})


def plan(asked: BuildRequest) -> BuildPlan:
    key = hashlib.sha256(asked.model_dump_json(exclude={"owner"}).encode()).hexdigest()
    return BuildPlan(asked, key, Path(), (), ())


def layout_at(folder: Path) -> Layout:
    layout = Layout(folder)
    layout.prepare()
    return layout


def image_of(layout: Layout, build_id: str, text: bytes = b"print('hello')\n") -> ImageReference:
    """A real image with one layer of one file."""
    layer = _tar(text)
    config = {
        "architecture": "amd64",
        "os": "linux",
        "config": {"Cmd": ["python", "main.py"]},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(layer).hexdigest()}"]},
        "history": [{"created_by": "a test"}],
    }
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST_TYPE,
        "config": _part(layout, "application/vnd.oci.image.config.v1+json", json.dumps(config).encode()),
        "layers": [_part(layout, "application/vnd.oci.image.layer.v1.tar+gzip", gzip.compress(layer, mtime=0))],
    }
    digest = layout.add(json.dumps(manifest).encode())
    return ImageReference(repository=f"builds/{build_id}", digest=digest, size=len(layer))


def _part(layout: Layout, media_type: str, data: bytes) -> dict[str, object]:
    return {"mediaType": media_type, "digest": layout.add(data), "size": len(data)}


def _tar(text: bytes) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        entry = tarfile.TarInfo("workspace/main.py")
        entry.size = len(text)
        tar.addfile(entry, io.BytesIO(text))
    return buffer.getvalue()


def maker(layout: Layout, build: Work, planner: Callable[[BuildRequest], BuildPlan] = plan) -> Maker:
    return Maker(
        plan=lambda request, _: planner(request), build=build, has_image=lambda image: is_whole(layout, image.digest)
    )


class NotingPipeline:
    """Waits for a file before it makes the image, and notes when it begins, ends, and is really dead."""

    def __init__(self, folder: Path, layout: Layout) -> None:
        self._folder = folder
        self._layout = layout

    async def __call__(self, plan: BuildPlan, report: Reporter) -> ImageReference:
        self._note(f"begin {plan.id}")
        report.step("resolve")
        report.layer(LayerProgress(name="program", kind="program", state="building", done=0, total=10))
        try:
            while not (self._folder / "go").exists():
                await asyncio.sleep(0.02)
        except asyncio.CancelledError:
            await asyncio.sleep(0.2)  # what it started takes a while to die
            self._note(f"dead {plan.id}")
            raise
        image = image_of(self._layout, plan.id)
        report.layer(LayerProgress(name="program", kind="program", state="built", size=image.size))
        self._note(f"end {plan.id}")
        return image

    def _note(self, line: str) -> None:
        with (self._folder / "runs").open("a") as file:
            file.write(line + "\n")


def main() -> None:
    state_dir = Path(sys.argv[1])
    settings = Settings(state_dir=state_dir, image_builder_port=0, web_port=0)
    with folder_lock(state_dir / "builder"):
        workshop = Workshop.open(state_dir, {})
        layout = workshop.layout
        asyncio.run(service.serve(settings, workshop, maker(layout, NotingPipeline(state_dir, layout))))


if __name__ == "__main__":
    main()
