"""From `/start` to `running` on Cloud Run, beside Google's own client waiting for the same service.

Both deploy Google's hello to the same twin of Google, in turns. What the twin itself takes from the creation of a
service to its readiness is subtracted: what is left is what it costs to ask, and to notice. It informs and never fails.
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import httpx
from rich.console import Console
from rich.table import Table

from bench.cloud_run_stock import HELLO

SCENARIOS = {0.5: 9, 12.0: 3}
"""Seconds that a program takes to come up -> rounds. What takes long shows how seldom a client looks by then."""
AIM = 2.0  # seconds within which readiness is noticed
_LOOK = 0.01
_WAIT = 120.0
_YAML = f"build:\n  image_uri: {HELLO}\ndeploy:\n  type: gcp-cloudrun\n  service_name: NAME\n"


@dataclass
class Candidate:
    """seconds: of each round, all in all; google: of these, the twin's own."""

    name: str
    seconds: list[float] = field(default_factory=list)
    google: list[float] = field(default_factory=list)

    def add(self, seconds: float, google: float) -> None:
        self.seconds.append(seconds)
        self.google.append(google)

    @property
    def overhead(self) -> list[float]:
        return [seconds - google for seconds, google in zip(self.seconds, self.google, strict=True)]


@contextmanager
def process(log: Path, *words: str, env: Mapping[str, str]) -> Iterator[subprocess.Popen[str]]:
    """`python -m …`, with pipes; what it complains of goes to a file."""
    with log.open("w") as errors:
        started = subprocess.Popen(
            [sys.executable, "-m", *words],
            env=dict(env),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )
    try:
        yield started
    finally:
        started.terminate()
        started.communicate(timeout=60)


@contextmanager
def twin(folder: Path) -> Iterator[dict[str, str]]:
    """The variables with which other processes take it for Google."""
    with process(folder / "twin.log", "gcp_emulator", "--state", str(folder / "twin"), env=os.environ) as running:
        assert running.stdout
        if not any(line.startswith("ready") for line in running.stdout):
            raise SystemExit(f"the twin did not start:\n{(folder / 'twin.log').read_text()}")
        lines = (folder / "twin" / "environment").read_text().splitlines()
        yield dict(shlex.split(line)[1].split("=", 1) for line in lines)


@contextmanager
def manager(folder: Path, google: Mapping[str, str]) -> Iterator[httpx.Client]:
    own = {
        "STATE_DIR": str(folder / "state"),
        "SHARED_ROOT": str(folder),
        "DATABASE_URL": "",
        "CLOUD_MANAGER_HOST": "127.0.0.1",
        "CLOUD_MANAGER_PORT": "0",
    }
    with process(folder / "manager.log", "cloud_manager", env={**os.environ, **google, **own}) as running:
        assert running.stdout
        line = running.stdout.readline()
        if not line:
            raise SystemExit(f"the manager did not start:\n{(folder / 'manager.log').read_text()}")
        with httpx.Client(base_url=line.split()[-1], trust_env=False, timeout=10) as client:
            yield client


class Stock:
    def __init__(self, running: subprocess.Popen[str]) -> None:
        self._running = running

    def __call__(self, word: str, name: str) -> dict[str, float]:
        assert self._running.stdin and self._running.stdout
        self._running.stdin.write(f"{word} {name}\n")
        self._running.stdin.flush()
        line = self._running.stdout.readline()
        if not line:
            raise SystemExit(f"Google's client ended at: {word} {name}")
        answer: dict[str, float] = json.loads(line)
        return answer


def deployed(client: httpx.Client, folder: Path, name: str) -> float:
    """Seconds from `/start` to `running`."""
    project = folder / "common" / "7" / name
    project.mkdir(parents=True)
    (project / "deployment.yaml").write_text(_YAML.replace("NAME", name))
    who = {"user_id": "7", "project_id": name}
    began = time.perf_counter()
    started = client.get("/start", params=who)
    if started.text != "started":
        raise SystemExit(f"/start: {started.text}")
    await_word(client, who, "running")
    return time.perf_counter() - began


def await_word(client: httpx.Client, who: Mapping[str, str], wanted: str) -> None:
    tick, end = threading.Event(), time.monotonic() + _WAIT
    while (word := client.get("/status_request", params=who).text) != wanted:
        if word == "failed" or time.monotonic() > end:
            raise SystemExit(f"{who['project_id']} is {word}, not {wanted}")
        tick.wait(_LOOK)


def url_name(client: httpx.Client, name: str) -> str:
    """The service's name at Google, which its address begins with."""
    url: str = client.get(f"/api/v1/deployments/7/{name}").json()["url"]
    return url.removeprefix("https://").partition(".")[0].rpartition("-")[0]


def slow_down(google: Mapping[str, str], seconds: float) -> None:
    """Every revision comes up so late."""
    rules = [{"call": "revision", "seconds": seconds, "times": 0}]
    url = f"{google['GCP_EMULATOR_CONTROL']}/faults"
    httpx.put(url, json=rules, trust_env=False).raise_for_status()


def one_round(
    name: str, number: int, client: httpx.Client, folder: Path, stock: Stock, pair: tuple[Candidate, Candidate]
) -> None:
    """In turning order; each leaves nothing for the other."""
    for candidate in pair if number % 2 else reversed(pair):
        if candidate is pair[0]:
            own = f"ours-{name}"
            seconds = deployed(client, folder, own)
            candidate.add(seconds, stock("look", url_name(client, own))["google"])
            who = {"user_id": "7", "project_id": own}
            client.get("/stop", params=who)
            await_word(client, who, "stopped")
        else:
            figures = stock("create", f"stock-{name}")
            candidate.add(figures["seconds"], figures["google"])
            stock("delete", f"stock-{name}")


def measured(rounds: int, slow: float, client: httpx.Client, folder: Path, stock: Stock) -> tuple[Candidate, Candidate]:
    pair = Candidate("ours"), Candidate("Google's client")
    for number in range(1, rounds + 1):
        one_round(f"{round(slow * 10)}-{number}", number, client, folder, stock, pair)
    return pair


def report(ours: Candidate, peer: Candidate, slow: float) -> None:
    table = Table(
        title=f"Cloud Run, a program that takes {slow:g} s to come up, median of {len(ours.seconds)}; seconds"
    )
    for heading in ("", "until noticed", "Google's own", "overhead", "least", "most"):
        table.add_column(heading, justify="right" if heading else "left")
    for each in (ours, peer):
        most = max(each.overhead)
        row = (median(each.seconds), median(each.google), median(each.overhead), min(each.overhead), most)
        table.add_row(each.name, *(f"{figure:.2f}" for figure in row))
    console = Console()
    console.print(table)
    ratio = median(ours.overhead) / median(peer.overhead)
    console.print(f"ratio of the overheads {ratio:.2f}; most of ours {max(ours.overhead):.2f} s (aim: under {AIM:.0f})")


def main(scenarios: Mapping[float, int] = SCENARIOS) -> None:
    """scenarios: seconds that the program takes -> rounds."""
    with tempfile.TemporaryDirectory(prefix="cloud-deploy-bench-") as name:
        folder = Path(name)
        with twin(folder) as google, manager(folder, google) as client:
            parent = f"projects/{google['GOOGLE_CLOUD_PROJECT']}/locations/{google['GCP_REGION']}"
            words = "bench.cloud_run_stock", parent
            with process(folder / "stock.log", *words, env={**os.environ, **google}) as running:
                stock = Stock(running)
                measured(1, 0.0, client, folder, stock)  # Warm-up.
                for slow, rounds in scenarios.items():
                    slow_down(google, slow)
                    report(*measured(rounds, slow, client, folder, stock), slow)
