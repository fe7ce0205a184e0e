"""Small wheels and projects for tests, made on the spot: no test of the pipeline needs a network."""

from __future__ import annotations

import asyncio
import hashlib
import os
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from image_builder.contract import BuildRequest, LayerProgress, Requirement
from image_builder.job import Step
from image_builder.plan import BuildPlan, make_plan
from image_builder.workshop import Workshop

SCRIPT = "[console_scripts]\nhello-script = hello:main\n"
HELLO = "def main():\n    print('hello from a wheel')\n    return 0\n"


def make_wheel(
    folder: Path,
    name: str = "hello",
    version: str = "1.0",
    files: Mapping[str, bytes | str] | None = None,
    *,
    requires: tuple[str, ...] = (),
    entry_points: str = "",
    tag: str = "py3-none-any",
    compression: int = zipfile.ZIP_DEFLATED,
    modes: Mapping[str, int] | None = None,
    metadata: str = "",
) -> Path:
    """A wheel as a build backend writes it; `files` besides the dist-info, `metadata` more lines of METADATA."""
    info = f"{name}-{version}.dist-info"
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{metadata}"
    metadata += "".join(f"Requires-Dist: {row}\n" for row in requires)
    contents: dict[str, bytes | str] = dict(files if files is not None else {f"{name}/__init__.py": HELLO})
    contents[f"{info}/METADATA"] = metadata
    contents[f"{info}/WHEEL"] = f"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: {tag}\n"
    if entry_points:
        contents[f"{info}/entry_points.txt"] = entry_points
    contents[f"{info}/RECORD"] = "".join(f"{path},,\n" for path in [*contents, f"{info}/RECORD"])
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}-{version}-{tag}.whl"
    with zipfile.ZipFile(path, "w", compression) as archive:
        for where, data in contents.items():
            row = zipfile.ZipInfo(where, (2020, 1, 1, 0, 0, 0))
            row.external_attr = (0o100000 | (modes or {}).get(where, 0o644)) << 16
            archive.writestr(row, data, compression)
    return path


def offline(links: Path, **more: str) -> dict[str, str]:
    """An environment in which `links` is the only source of packages."""
    keep = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    return {**keep, "UV_NO_INDEX": "1", "UV_FIND_LINKS": str(links), "PIP_CONFIG_FILE": os.devnull, **more}


def make_project(root: Path, files: Mapping[str, bytes | str] | None = None) -> Path:
    folder = root / "common" / "7" / "42" / "nn_model"
    for name, data in (files or {"app.py": "print('hello')\n"}).items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return folder


def make_request(*requirements: str, **changes: Any) -> BuildRequest:
    rows = tuple(
        Requirement(text=text, origin=f"deployment.yaml:{9 + count}:13: build.components.libs[{count}]")
        for count, text in enumerate(requirements)
    )
    wanted: dict[str, Any] = {
        "owner": "7/42",
        "source": "common/7/42/nn_model",
        "base_image": "scratch",
        "entrypoint": ("app.py",),
        "requirements": rows,
    }
    return BuildRequest(**{**wanted, **changes})


def plan_of(request: BuildRequest, root: Path, workshop: Workshop) -> BuildPlan:
    return make_plan(request, root, workshop.hashes)


class Notes:
    """A reporter that remembers, and calls `at` when a step begins or a layer's state is told."""

    def __init__(self, at: Callable[[str], None] = lambda _: None) -> None:
        self.steps: list[str] = []
        self.layers: dict[str, LayerProgress] = {}
        self.logs: list[str] = []
        self.bases: list[str] = []
        self._at = at

    def step(self, name: Step) -> None:
        self.steps.append(name)
        self._at(name)

    def layer(self, progress: LayerProgress) -> None:
        self.layers[progress.name] = progress
        self._at(f"{progress.kind}:{progress.state}")

    def base(self, reference: str) -> None:
        self.bases.append(reference)

    def log(self, message: str) -> None:
        self.logs.append(message)

    @property
    def states(self) -> dict[str, str]:
        return {name: row.state for name, row in self.layers.items()}


def sha256(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


async def until(true: Callable[[], bool], seconds: float = 20) -> None:
    """Wait for a condition, at most so long."""
    async with asyncio.timeout(seconds):
        while not true():
            await asyncio.sleep(0.005)


async def no_sleep(_seconds: float) -> None:
    """In place of waiting between attempts."""
