"""`python -m bench images [--only ours] …`: seconds, CPU, memory and bytes of one image, ours and its peers.

It informs and never fails. What is missing on this machine is said, and the rest is measured.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

from bench.images import buildah, docker
from bench.images.buildah import Buildah
from bench.images.docker import Docker, Tuned
from bench.images.engine import engine_at_hand, engine_of
from bench.images.measure import Candidate, Setting, measure, measure_memory
from bench.images.ours import NAME, Ours
from bench.images.registry import make_base
from bench.images.report import report, report_memory
from bench.images.workload import FIRST, ONE_MORE, SECOND, download, served

NAMES = (NAME, docker.CLASSIC, docker.BUILDKIT, buildah.NAME, docker.TUNED)
MEMORY_SIZES = (200 * 10**6, 4 * 10**9)


def options(words: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench images", description=__doc__)
    parser.add_argument("--only", "--candidates", dest="candidates", default=NAMES, type=names, help=", ".join(NAMES))
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--requirements", default="", help="instead of torch and its company, with commas between")
    parser.add_argument("--weights-mb", type=int, default=200)
    parser.add_argument("--materials", type=Path, help="folder that keeps base and wheels for the next time")
    parser.add_argument(
        "--memory", action="store_true", help="only the memory of builds with 200 MB and 4 GB of weights"
    )
    newer = "folder with a newer dockerd, containerd, docker and docker-buildx, for tuned"
    parser.add_argument("--docker-programs", type=Path, help=newer)
    parser.add_argument("--no-memory", action="store_true", help="all but that")
    return parser.parse_args(words)


def names(text: str) -> tuple[str, ...]:
    found = tuple(text.split(","))
    if unknown := set(found) - set(NAMES):
        raise argparse.ArgumentTypeError(f"{', '.join(unknown)}: there is {', '.join(NAMES)}")
    return found


def missing() -> str:
    """Why nothing can be measured here; empty if it can."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return "the base is made by mmdebstrap as root on Linux"
    absent = [name for name in ("mmdebstrap", "docker-registry") if not shutil.which(name)]
    return f"not installed: {', '.join(absent)}" if absent else ""


def main(words: Sequence[str]) -> None:
    asked = options(words)
    if reason := missing():
        print(f"images: not measured, {reason}")
        return
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # what was started is stopped then, too
    first = tuple(asked.requirements.split(",")) if asked.requirements else FIRST
    second = first if asked.requirements else SECOND
    with tempfile.TemporaryDirectory(prefix="cloud-deploy-bench-", dir="/var/tmp") as name:
        folder = Path(name)
        materials = asked.materials or folder / "materials"
        materials.mkdir(parents=True, exist_ok=True)
        print("the base, by mmdebstrap, and the wheels, by pip", flush=True)
        make_base(materials / "base")
        wheels = download(materials, (*first, ONE_MORE), second)
        setting = Setting(folder, materials / "base", first, second, asked.weights_mb * 10**6)
        ours = Ours(folder / "ours", wheels)
        if not asked.memory:
            compare(asked, setting, ours)
        if asked.memory or not asked.no_memory:
            report_memory(measure_memory(ours, setting, MEMORY_SIZES))


def compare(asked: argparse.Namespace, setting: Setting, ours: Ours) -> None:
    with ExitStack() as stack:
        links = stack.enter_context(served(ours.wheels))
        candidates = choose(asked, setting.folder, links, stack)
        if NAME in asked.candidates:
            candidates.insert(0, ours)
        report(measure(candidates, setting, asked.rounds, say), candidates)


def choose(asked: argparse.Namespace, folder: Path, links: str, stack: ExitStack) -> list[Candidate]:
    """The peers that were asked for and can be had; of the others it is said why not."""
    newer: Path | None = asked.docker_programs

    def classic_or_buildkit(name: str) -> Candidate:
        return Docker(name, stack.enter_context(engine_at_hand(folder / name)), links)

    def tuned(name: str) -> Candidate:
        engine = engine_of(newer, folder / name) if newer else engine_at_hand(folder / name)
        return Tuned(stack.enter_context(engine), links)

    makers: dict[str, Callable[[str], Candidate]] = {
        docker.CLASSIC: classic_or_buildkit,
        docker.BUILDKIT: classic_or_buildkit,
        buildah.NAME: lambda name: Buildah(folder / name, links),
        docker.TUNED: tuned,
    }
    found = []
    for name in makers.keys() & set(asked.candidates):
        try:
            found.append(makers[name](name))
        except RuntimeError as error:
            say(f"{name}: not measured, {error}")
    return sorted(found, key=lambda each: NAMES.index(each.name))


def say(line: str) -> None:
    print(line, flush=True)
