"""Our builder, as a service of its own with an empty folder."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
from httpx_sse import connect_sse

from bench.images.meter import Watched
from bench.images.registry import Registry
from bench.images.workload import PYTHON, WEIGHTS, Project

NAME = "ours"
_SECONDS = 1800.0


class Ours:
    name = NAME

    def __init__(self, folder: Path, wheels: Path) -> None:
        self._folder, self.wheels = folder, wheels
        self.steps: dict[str, float] = {}

    @property
    def version(self) -> str:
        told = subprocess.run(["git", "log", "-1", "--format=%h %s"], capture_output=True, text=True, check=False)
        return told.stdout.strip() or "this tree"

    @contextmanager
    def ready(self, registry: Registry, shared: Path) -> Iterator[Watched]:
        """A builder that knows the base, as the peers have theirs pulled, and nothing else."""
        with self.empty(registry, shared) as watched:
            folder = shared / "common" / "1" / "0"
            folder.mkdir(exist_ok=True)
            (folder / "app.py").write_text("print('on the base')\n")
            self._ask(Project("0", folder, ()), [])
            yield watched

    @contextmanager
    def empty(self, registry: Registry, shared: Path) -> Iterator[Watched]:
        """A builder that has nothing yet: not the base, no wheel, no layer."""
        state = self._folder / "state"
        shutil.rmtree(state, ignore_errors=True)
        state.mkdir(parents=True)
        self._registry, self._shared = registry, shared
        command = [sys.executable, "-m", "image_builder"]
        with (self._folder / "log").open("w") as log:
            process = subprocess.Popen(
                command, env=self._environment(state, shared), stdout=subprocess.PIPE, stderr=log, text=True
            )
        try:
            assert process.stdout
            line = process.stdout.readline()
            if not line:
                raise RuntimeError(f"the builder did not start: {(self._folder / 'log').read_text()[-500:]}")
            with httpx.Client(base_url=line.split()[2], timeout=_SECONDS, trust_env=False) as self._http:
                yield Watched(daemons=(process.pid,), apart=(registry.pid,))
        finally:
            process.terminate()
            process.communicate(timeout=60)
            shutil.rmtree(state, ignore_errors=True)

    def build(self, project: Project, scenario: str) -> None:
        del scenario  # what changed is found out
        self.steps = self._ask(project, [WEIGHTS])

    def _ask(self, project: Project, weights: list[str]) -> dict[str, float]:
        """Seconds by step, once the image is in the registry."""
        body: dict[str, Any] = {
            "owner": project.name,
            "source": str(project.folder.relative_to(self._shared)),
            "base_image": self._registry.base,
            "python": PYTHON,
            "entrypoint": ["app.py"],
            "requirements": [{"text": text} for text in project.requirements],
            "weights": weights,
            "push": f"{self._registry.address}/{project.name}:latest",
        }
        answer = self._http.post("/builds", json=body)
        if answer.is_error:
            raise RuntimeError(answer.text)
        with connect_sse(self._http, "GET", f"/builds/{answer.json()['id']}/events") as stream:
            last = [event.json() for event in stream.iter_sse()][-1]
        if not last["message"].startswith("succeeded"):
            raise RuntimeError(last["message"])
        summary: dict[str, dict[str, float]] = last["summary"] or {}
        return summary.get("steps", {})

    def _environment(self, state: Path, shared: Path) -> dict[str, str]:
        return {
            **os.environ,
            "STATE_DIR": str(state),
            "SHARED_ROOT": str(shared),
            "IMAGE_BUILDER_PORT": "0",
            "WEB_PORT": "0",
            "UV_NO_INDEX": "1",
            "UV_FIND_LINKS": str(self.wheels),
            "UV_CACHE_DIR": str(state / "uv"),  # what uv learned of the wheels in an earlier round is a cache, too
        }
