"""Seconds from a request to an image, beside buildah building the equivalent Dockerfile.

Both in turns, in one run, with the same wheels from a folder on the disk, so that no network has a say; buildah's base
is imported beforehand, ours has none to fetch (`scratch`). It informs and never fails.

    python -m bench images [REQUIREMENT...]      flask, unless other requirements are named
"""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import httpx
from httpx_sse import connect_sse
from rich.console import Console
from rich.table import Table

ROUNDS = 3
PEERS = ("buildah", "mmdebstrap")
SCENARIOS = ("cold", "nothing changed", "one line changed")
_INCLUDE = "--include=python3,python3-pip,python3-venv,ca-certificates"
_PYTHON = "3.11"
_SOURCE = "common/1/1"


class Ours:
    """The builder as a service of its own, with an empty state in each round."""

    name = "image_builder"

    def __init__(self, folder: Path, wheels: Path, requirements: Sequence[str]) -> None:
        self._folder, self._wheels, self._requirements = folder, wheels, requirements
        self.program = folder / "shared" / _SOURCE
        self.program.mkdir(parents=True)
        self._state = folder / "state"

    @contextmanager
    def round(self) -> Iterator[None]:
        shutil.rmtree(self._state, ignore_errors=True)
        environ = {
            **os.environ,
            "STATE_DIR": str(self._state),
            "SHARED_ROOT": str(self._folder / "shared"),
            "IMAGE_BUILDER_PORT": "0",
            "UV_NO_INDEX": "1",
            "UV_FIND_LINKS": str(self._wheels),
        }
        command = [sys.executable, "-m", "image_builder"]
        process = subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        try:
            assert process.stdout
            url = process.stdout.readline().split()[2]
            with httpx.Client(base_url=url, timeout=600, trust_env=False) as self._http:
                yield
        finally:
            process.terminate()
            process.communicate(timeout=30)

    def build(self, scenario: str) -> str:
        """The build's id, once its image is there."""
        del scenario  # what changed is found out
        body: dict[str, Any] = {
            "owner": "1/1",
            "source": _SOURCE,
            "base_image": "scratch",
            "python": _PYTHON,
            "entrypoint": ["app.py"],
            "requirements": [{"text": text} for text in self._requirements],
        }
        build_id = str(self._http.post("/builds", json=body).raise_for_status().json()["id"])
        with connect_sse(self._http, "GET", f"/builds/{build_id}/events") as stream:
            last = [event.json() for event in stream.iter_sse()][-1]
        if not last["message"].startswith("succeeded"):
            raise SystemExit(f"our build {last['message']}")
        return build_id

    def context(self, target: Path) -> None:
        """What buildah is given: the equivalent Dockerfile and its files."""
        answer = self._http.get(f"/builds/{self.build('')}/dockerfile", params={"format": "tar"}).raise_for_status()
        with tarfile.open(fileobj=io.BytesIO(answer.content)) as tar:
            tar.extractall(target, filter="data")

    @property
    def written(self) -> int:
        return _bytes_below(self._state)


class Buildah:
    """With a store and a layer cache of its own, and the base imported."""

    name = "buildah bud"

    def __init__(self, folder: Path, wheels: Path, base: Path) -> None:
        self._store = folder / "store"
        self._wheels = wheels
        self._settings = folder / "pip.conf"
        self._settings.write_text("[global]\nno-index = true\nfind-links = /links\n")
        self.context = folder / "context"
        self.program = self.context / "program"
        self.driver = next((name for name in ("overlay", "vfs") if self._works(name)), "vfs")
        container = self._run("from", "scratch").strip()
        self._run("add", container, str(base), "/")
        self._run("commit", "--rm", container, "base")

    @contextmanager
    def round(self) -> Iterator[None]:
        yield

    def build(self, scenario: str) -> str:
        cache = ["--no-cache"] if scenario == "cold" else []
        mounts = [f"--volume={self._wheels}:/links:ro", f"--volume={self._settings}:/etc/pip.conf:ro"]
        options = [
            "--isolation=chroot",
            "--network=host",
            "--pull=never",
            "--build-arg=BASE=localhost/base",
            "--layers",
        ]
        return self._run("bud", *options, *cache, *mounts, "--tag=it", str(self.context)).split()[-1]

    @property
    def written(self) -> int:
        return _bytes_below(self._store)

    def _works(self, driver: str) -> bool:
        self.driver = driver
        try:
            self._run("rm", self._run("from", "scratch").strip())
        except SystemExit:
            shutil.rmtree(self._store, ignore_errors=True)
            return False
        return True

    def _run(self, *words: str) -> str:
        store = ["--root", f"{self._store}/root", "--runroot", f"{self._store}/run", "--storage-driver", self.driver]
        done = subprocess.run(["buildah", *store, *words], capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"buildah {words[0]}: {done.stderr[-2000:]}")
        return done.stdout


Figures = dict[tuple[str, str], list[tuple[float, int]]]
"""(candidate, scenario) -> seconds and bytes written, by round."""


def measure(ours: Ours, peer: Buildah, rounds: int, tell: Callable[[str], None]) -> Figures:
    """Round by round, ours and the peer in turns."""
    figures: Figures = {}
    for number in range(rounds):
        with ours.round(), peer.round():
            _write_program(ours.program, f"round {number}")
            if not peer.context.exists():
                ours.context(peer.context)
                continue  # a warm-up of the disk, and the only round without a peer
            _write_program(peer.program, f"round {number}")
            for scenario in SCENARIOS:
                if scenario == "one line changed":
                    for candidate in (ours, peer):
                        _write_program(candidate.program, f"round {number}, changed")
                for candidate in (ours, peer) if number % 2 else (peer, ours):
                    found = _timed(candidate, scenario)
                    figures.setdefault((candidate.name, scenario), []).append(found)
                    tell(f"  round {number}, {scenario}, {candidate.name}: {found[0]:.2f} s, {found[1] / 1e6:.1f} MB")
    return figures


def _timed(candidate: Ours | Buildah, scenario: str) -> tuple[float, int]:
    before, start = candidate.written, time.perf_counter()
    candidate.build(scenario)
    return time.perf_counter() - start, max(0, candidate.written - before)


def _write_program(folder: Path, text: str) -> None:
    (folder / "app.py").write_text(f"print({text!r})\n")


def _bytes_below(folder: Path) -> int:
    """What it takes on the disk, hard links once."""
    seen = {}
    for top, _, names in os.walk(folder):
        for name in names:
            try:
                found = (Path(top) / name).lstat()
            except FileNotFoundError:
                continue
            seen[found.st_dev, found.st_ino] = found.st_size
    return sum(seen.values())


def report(figures: Figures, ours: Ours, peer: Buildah, requirements: Sequence[str]) -> None:
    table = Table(title=f"an image with {', '.join(requirements)}, median seconds (MB written)")
    for heading in ("", ours.name, f"{peer.name}, {peer.driver}", "times as fast"):
        table.add_column(heading, justify="right" if heading else "left")
    for scenario in SCENARIOS:
        mine, theirs = figures[ours.name, scenario], figures[peer.name, scenario]
        ratio = median(other / own for (own, _), (other, _) in zip(mine, theirs, strict=True))
        table.add_row(scenario, _cell(mine), _cell(theirs), f"{ratio:.1f}")
    Console().print(table)


def _cell(rounds: Sequence[tuple[float, int]]) -> str:
    return f"{median(seconds for seconds, _ in rounds):.2f} ({median(size for _, size in rounds) / 1e6:.1f})"


def missing() -> str:
    """Why it cannot run here; empty if it can."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return "buildah --isolation chroot needs Linux and root"
    absent = [name for name in PEERS if not shutil.which(name)]
    return f"not installed: {', '.join(absent)}" if absent else ""


def main(requirements: Sequence[str] = ("flask",), rounds: int = ROUNDS) -> None:
    if reason := missing():
        print(f"images beside buildah: not measured, {reason}")
        return
    with tempfile.TemporaryDirectory(prefix="cloud-deploy-bench-", dir="/var/tmp") as name:
        folder = Path(name)
        wheels, base = folder / "wheels", folder / "base.tar"
        wanted = ["--python-version", _PYTHON, "--only-binary", ":all:", "--dest", str(wheels), *requirements]
        subprocess.run([sys.executable, "-m", "pip", "download", "--quiet", *wanted], check=True)
        subprocess.run(["mmdebstrap", "--quiet", "--variant=minbase", _INCLUDE, "bookworm", str(base)], check=True)
        ours, peer = Ours(folder, wheels, requirements), Buildah(folder, wheels, base)
        report(measure(ours, peer, rounds + 1, print), ours, peer, requirements)
