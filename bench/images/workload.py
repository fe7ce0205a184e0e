"""What is built: a model's service over torch, its changes one by one, and a second project with the same torch."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

PYTHON = "3.11"
TORCH = "torch==2.13.0"
FIRST = (TORCH, "fastapi", "uvicorn", "numpy", "pillow")
SECOND = (TORCH, "flask", "gunicorn", "requests", "pyyaml")
ONE_MORE = "tabulate"
"""A small dependency, of pure python and without dependencies of its own."""
WEIGHTS = "weights.bin"
SCENARIOS = ("cold", "nothing changed", "one line", "one dependency", "1 MB of weights", "second project")
EMPTY, AGAIN = "cold, without base", "second machine"
"""Ours alone: a builder that does not know the base either; and one that asks for what the registry has all of."""

_MEGABYTE = 10**6


@dataclass
class Project:
    """A project's folder, and what it asks for. `name` is its repository in the registry."""

    name: str
    folder: Path
    requirements: tuple[str, ...]

    def write(self, weights: int) -> None:
        """Three files of program, and weights that cannot be compressed, of so many bytes."""
        self.folder.mkdir(parents=True)
        self.edit("0")
        (self.folder / "model.py").write_text("def answer(number: int) -> int:\n    return 2 * number\n" * 20)
        (self.folder / "labels.json").write_text('["cat", "dog"]\n')
        self.reweigh(weights)

    def reweigh(self, size: int) -> None:
        write_weights(self.folder / WEIGHTS, size)

    def edit(self, word: str) -> None:
        (self.folder / "app.py").write_text(f"import model\n\nprint('version {word}', model.answer(21))\n")

    def retrain(self) -> None:
        """Other bytes in the midst of the weights, 1 MB of them."""
        path = self.folder / WEIGHTS
        with path.open("r+b") as file:
            file.seek(path.stat().st_size // 2)
            file.write(os.urandom(min(_MEGABYTE, path.stat().st_size // 2)))


@dataclass
class Workload:
    """Two projects that change from scenario to scenario, in a folder of one candidate's own."""

    first: Project
    second: Project

    def step(self, scenario: str, number: int) -> Project:
        """The project to build now; what the scenario says has happened to it."""
        if scenario == "one line":
            self.first.edit(f"{number}, edited")
        elif scenario == "one dependency":
            self.first.requirements += (ONE_MORE,)
        elif scenario == "1 MB of weights":
            self.first.retrain()
        return self.second if scenario == "second project" else self.first


def make_workload(folder: Path, requirements: Sequence[str], others: Sequence[str], weights: int) -> Workload:
    """Below `folder`/common/1/, as on the disk that TANGO's containers share."""
    shutil.rmtree(folder, ignore_errors=True)
    first = Project("first", folder / "common" / "1" / "1", tuple(requirements))
    second = Project("second", folder / "common" / "1" / "2", tuple(others))
    for project in (first, second):
        project.write(weights)
    return Workload(first, second)


def write_weights(path: Path, size: int) -> None:
    """Random bytes, the same block again and again with a number of its own before each: quick, and no two alike."""
    block, number = os.urandom(min(size, 64 * _MEGABYTE)), 0
    with path.open("wb") as file:
        while size > 0:
            piece = (number.to_bytes(8, "big") + block[8:])[:size]
            file.write(piece)
            size, number = size - len(piece), number + 1


def download(materials: Path, *projects: Sequence[str]) -> Path:
    """The folder with the wheels of each project, by pip and its own settings. Once: what is there stays.

    Projects need not agree on versions, so pip is asked for one after the other.
    """
    key = hashlib.sha256(repr(projects).encode()).hexdigest()[:8]
    folder = materials / f"wheels-{key}"
    if folder.exists():
        return folder
    command = [sys.executable, "-m", "pip", "download", "-qq", "--python-version", PYTHON, "--only-binary=:all:"]
    with tempfile.TemporaryDirectory(dir=materials) as growing:  # another bench may look for it at the same time
        for project in projects:
            subprocess.run([*command, "--find-links", growing, "--dest", growing, *project], check=True)
        shutil.copytree(growing, folder, dirs_exist_ok=True)
    return folder


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        pass


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """URL of the wheels for the peers, whose steps run in containers: on loopback, as near as a disk."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(folder)))
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.shutdown()
        server.server_close()
