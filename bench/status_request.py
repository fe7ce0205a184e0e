"""Requests per second of `/status_request` with 10,000 projects known, beside a bare Starlette route.

Both are measured in turns, in one run, so that whatever else this machine does slows both; the ratio is what counts.
It informs and never fails: a laptop on battery is no defect.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import psutil
from rich.console import Console
from rich.table import Table

from bench.projects import fill

PROJECTS = 10_000
ROUNDS = 5
SECONDS = 2.0
CONNECTIONS = 16
AIM_RATIO = 0.7
AIM_MEMORY = 150  # MB, of 10**6 bytes


@dataclass
class Candidate:
    name: str
    url: str
    pid: int
    projects: int
    rounds: list[dict[str, float]] = field(default_factory=list)

    def measure(self, seconds: float) -> dict[str, float]:
        command = [sys.executable, "-m", "bench.load", self.url, str(seconds), str(CONNECTIONS), str(self.projects)]
        before = self._processor_seconds()
        done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60)
        result: dict[str, float] = json.loads(done.stdout)
        return result | {"cost": (self._processor_seconds() - before) / result["answers"]}

    def _processor_seconds(self) -> float:
        times = psutil.Process(self.pid).cpu_times()
        return times.user + times.system

    def middle(self, figure: str) -> float:
        return median(each[figure] for each in self.rounds)

    @property
    def memory(self) -> float:
        """Resident, in MB."""
        return psutil.Process(self.pid).memory_info().rss / 1e6


@contextmanager
def serving(name: str, module: str, folder: Path, projects: int) -> Iterator[Candidate]:
    """The server in a process of its own; both say their URL in the last word of their first line."""
    with (folder / f"{module}.log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", module], env=_environment(folder), stdout=subprocess.PIPE, stderr=log, text=True
        )
    try:
        assert process.stdout
        line = process.stdout.readline()
        if not line:
            raise SystemExit(f"{name} did not start:\n{(folder / f'{module}.log').read_text()}")
        yield Candidate(name, line.split()[-1], process.pid, projects)
    finally:
        process.terminate()
        process.communicate(timeout=20)


def _environment(folder: Path) -> dict[str, str]:
    return {
        **os.environ,
        "STATE_DIR": str(folder / "state"),
        "SHARED_ROOT": str(folder),
        "DATABASE_URL": "",
        "CLOUD_MANAGER_HOST": "127.0.0.1",
        "CLOUD_MANAGER_PORT": "0",
        "LOCAL_TARGET": "1",
    }


def compare(ours: Candidate, bare: Candidate, rounds: int, seconds: float) -> float:
    """The median over the rounds of ours to bare, each round measured back to back, in turning order."""
    for candidate in (ours, bare):
        candidate.measure(seconds / 2)  # Warm-up.
    ratios = []
    for number in range(rounds):
        pair = (ours, bare) if number % 2 else (bare, ours)
        for candidate in pair:
            candidate.rounds.append(candidate.measure(seconds))
        ratios.append(ours.rounds[-1]["per_second"] / bare.rounds[-1]["per_second"])
    return median(ratios)


def report(ours: Candidate, bare: Candidate, ratio: float) -> None:
    what = (
        f"/status_request, {ours.projects:,} projects, {CONNECTIONS} connections, median of {len(ours.rounds)} rounds"
    )
    table = Table(title=what)
    for heading in ("", "requests/s", "p50 ms", "p99 ms", "CPU µs", "MB", "wrong"):
        table.add_column(heading, justify="right" if heading else "left")
    for each in (ours, bare):
        wrong = sum(one["wrong"] for one in each.rounds)
        rate, p50, p99 = each.middle("per_second"), each.middle("p50") * 1e3, each.middle("p99") * 1e3
        cost = each.middle("cost") * 1e6
        table.add_row(
            each.name, f"{rate:,.0f}", f"{p50:.2f}", f"{p99:.2f}", f"{cost:.0f}", f"{each.memory:.0f}", f"{wrong:.0f}"
        )
    console = Console()
    console.print(table)
    console.print(
        f"ratio {ratio:.2f} (aim: at least {AIM_RATIO}), memory {ours.memory:.0f} MB (aim: under {AIM_MEMORY})"
    )


def main(projects: int = PROJECTS, rounds: int = ROUNDS, seconds: float = SECONDS) -> None:
    with tempfile.TemporaryDirectory(prefix="cloud-deploy-bench-") as name:
        folder = Path(name)
        fill(folder / "state", projects)
        with (
            serving("cloud_manager", "cloud_manager", folder, projects) as ours,
            serving("bare route", "bench.bare", folder, projects) as bare,
        ):
            report(ours, bare, compare(ours, bare, rounds, seconds))
