"""What open pages of the GUI cost: `/status_request` with 200 of them and with none, in turns; and how soon one opens.

`python -m bench pages`. It informs and never fails; the ratio is what counts. All of it shares this machine's cores:
the pages, whose browsers would be elsewhere, take theirs from the servers.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median

import httpx
from rich.console import Console

from bench.projects import fill, identifiers
from bench.status_request import Candidate, serving

PROJECTS = 5_000
PAGES = 200
ROUNDS = 5
SECONDS = 2.0
_WITHIN = 60.0


def main(projects: int = PROJECTS, pages: int = PAGES, rounds: int = ROUNDS, seconds: float = SECONDS) -> None:
    with tempfile.TemporaryDirectory(prefix="cloud-deploy-bench-") as name, ExitStack() as opened:
        folder = Path(name)
        fill(folder / "state", projects)
        manager = opened.enter_context(serving("cloud_manager", "cloud_manager", folder, projects))
        gui = opened.enter_context(builder(folder, manager.url))
        first = opening(gui, projects)
        ratio = compare(manager, gui, pages, rounds, seconds)
        again = [timed(gui) for _ in range(rounds)]
    console = Console()
    console.print(f"{projects:,} projects: the first page is whole after {first:.2f} s, the next {median(again):.2f} s")
    console.print(f"/status_request with {pages} pages open to none: ratio {ratio:.2f} of requests per second")


def compare(manager: Candidate, gui: str, pages: int, rounds: int, seconds: float) -> float:
    """The median over the rounds of requests per second with pages open to those with none, in turning order."""
    manager.measure(seconds / 2)  # Warm-up.
    ratios = []
    for number in range(rounds):
        rates: dict[bool, float] = {}
        for with_pages in (True, False) if number % 2 else (False, True):
            with ExitStack() as opened:
                opened.enter_context(changing(manager.url, number * 200 + 100 * with_pages))
                if with_pages:
                    opened.enter_context(open_pages(gui, pages))
                rates[with_pages] = manager.measure(seconds)["per_second"]
        ratios.append(rates[True] / rates[False])
    return median(ratios)


@contextmanager
def builder(folder: Path, manager: str) -> Iterator[str]:
    """The builder, with the GUI; its address."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    told = {"IMAGE_BUILDER_PORT": "0", "WEB_PORT": str(port), "CLOUD_MANAGER_URL": manager, "SHARED_ROOT": str(folder)}
    with (folder / "image_builder.log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "image_builder"],
            env={**os.environ, "STATE_DIR": str(folder / "state"), **told},
            stdout=log,
            stderr=log,
        )
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(20)


def opening(gui: str, projects: int) -> float:
    """Seconds until a page shows all projects, of a GUI that has read none yet."""
    end = time.monotonic() + _WITHIN
    with httpx.Client(trust_env=False) as client:
        while time.monotonic() < end:
            try:
                client.get(f"{gui}/healthz").raise_for_status()
                break
            except httpx.TransportError:
                time.sleep(0.05)
        begun = time.monotonic()
        while f'class="count">{projects}<' not in client.get(gui, timeout=_WITHIN).text:
            if time.monotonic() > end:
                raise SystemExit(f"the GUI does not show {projects} projects within {_WITHIN:.0f} s")
    return time.monotonic() - begun


def timed(gui: str) -> float:
    begun = time.monotonic()
    httpx.get(gui, trust_env=False, timeout=_WITHIN).raise_for_status()
    return time.monotonic() - begun


@contextmanager
def open_pages(gui: str, count: int) -> Iterator[None]:
    """Streams as browsers hold them, read by nobody: what they cost is the servers'."""
    host, _, port = gui.removeprefix("http://").partition(":")
    request = f"GET /deployments/live HTTP/1.1\r\nHost: {host}:{port}\r\nAccept: text/event-stream\r\n\r\n".encode()
    with ExitStack() as opened:
        for _ in range(count):
            page = opened.enter_context(socket.create_connection((host, int(port))))
            page.sendall(request)
            if not page.recv(15).startswith(b"HTTP/1.1 200"):
                raise SystemExit("the GUI refuses a page")
        yield


@contextmanager
def changing(manager: str, first: int) -> Iterator[None]:
    """Ten projects a second are stopped meanwhile, so that the pages have something to show."""
    over = threading.Event()

    def stop() -> None:
        with httpx.Client(trust_env=False, timeout=30) as client:
            for number in range(first, first + 100):
                if over.wait(0.1):
                    return
                user, project = identifiers(number)
                client.get(f"{manager}/stop", params={"user_id": user, "project_id": project}).raise_for_status()

    thread = threading.Thread(target=stop)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
