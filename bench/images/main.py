"""`python -m bench images [--only ours] …`: seconds, CPU, memory and bytes of one image, ours and its peers.

It informs and never fails. What is missing on this machine is said, and the rest is measured.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from bench.images.measure import Candidate, Setting, measure, measure_memory
from bench.images.ours import NAME, Ours
from bench.images.registry import make_base
from bench.images.report import report, report_memory
from bench.images.workload import FIRST, ONE_MORE, SECOND, download, served

NAMES = (NAME,)
MEMORY_SIZES = (200 * 10**6, 4 * 10**9)


def options(words: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench images", description=__doc__)
    parser.add_argument("--only", "--candidates", dest="candidates", default=",".join(NAMES), help=", ".join(NAMES))
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--requirements", default="", help="instead of torch and its company, with commas between")
    parser.add_argument("--weights-mb", type=int, default=200)
    parser.add_argument("--materials", type=Path, help="folder that keeps base and wheels for the next time")
    parser.add_argument(
        "--memory", action="store_true", help="only the memory of builds with 200 MB and 4 GB of weights"
    )
    parser.add_argument("--no-memory", action="store_true", help="all but that")
    return parser.parse_args(words)


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
    first = tuple(asked.requirements.split(",")) if asked.requirements else FIRST
    second = first if asked.requirements else SECOND
    with tempfile.TemporaryDirectory(prefix="cloud-deploy-bench-", dir="/var/tmp") as name:
        folder = Path(name)
        materials = asked.materials or folder / "materials"
        materials.mkdir(parents=True, exist_ok=True)
        print("the base, by mmdebstrap, and the wheels, by pip", flush=True)
        make_base(materials / "base")
        download(materials / "wheels", (*first, ONE_MORE, *second))
        setting = Setting(folder, materials / "base", first, second, asked.weights_mb * 10**6)
        ours = Ours(folder / "ours", materials / "wheels")
        if not asked.memory:
            with served(materials / "wheels") as links:
                candidates = choose(asked.candidates.split(","), ours, folder, links)
                report(measure(candidates, setting, asked.rounds, lambda line: print(line, flush=True)), candidates)
        if asked.memory or not asked.no_memory:
            report_memory(measure_memory(ours, setting, MEMORY_SIZES))


def choose(names: Sequence[str], ours: Ours, folder: Path, links: str) -> list[Candidate]:
    del folder, links
    return [ours] if NAME in names else []
