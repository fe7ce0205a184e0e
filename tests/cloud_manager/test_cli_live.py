"""What moves in a terminal: the bars of a build, the table that is watched, what Tab offers."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import IO

import pytest
from rich.console import Console

from cloud_manager.cli.bars import Bar, BuildBars, in_sight, sum_of
from cloud_manager.cli.up import free_port
from cloud_manager.cli.watch import screen_of
from tests.cloud_manager.canned_manager import CannedManager, row, serving

CLOUD_DEPLOY = (sys.executable, "-m", "cloud_manager.cli.main")


@pytest.fixture
def manager() -> Iterator[CannedManager]:
    with serving(CannedManager()) as canned:
        yield canned


def layer(name: str, state: str, done: int = 0, total: int = 100) -> dict[str, object]:
    return {"name": name, "state": state, "done": done, "total": total, "size": total}


def test_bars_show_bytes_and_the_time_that_is_left() -> None:
    out = io.StringIO()
    with BuildBars(Console(file=out, force_terminal=True, width=120, height=30)) as bars:
        bars.show({"id": "a", "layers": [layer("torch", "fetching", 0, 200_000_000), layer("numpy", "waiting")]})
        bars.show({"id": "a", "layers": [layer("torch", "fetching", 5_000_000, 200_000_000), layer("numpy", "built")]})
        bars.show({"id": "b", "layers": [layer("flask", "building", 1_000_000, 2_000_000)]})
        last = Console(file=io.StringIO(), record=True, width=120)
        last.print(bars._progress.get_renderable())
    text = last.export_text()
    assert "flask" in text and "1.0/2.0 MB" in text and "building" in text and "0 of 1 layers" in text
    assert "torch" not in text, "layers of the build before"
    assert "5.0/200.0 MB" in out.getvalue() or "0.0/200.0 MB" in out.getvalue()


def test_a_hundred_layers_leave_room_for_the_words_above() -> None:
    """Bars that fill the whole terminal push away what the build says."""
    bars = [Bar(f"l{n}", "fetching" if n % 2 else "built", n, n) for n in range(100)]
    assert in_sight(bars, 3) == {"l99", "l97", "l95"}
    assert in_sight(bars[:3], 3) == {"l0", "l1", "l2"}
    assert sum_of([Bar("a", "built", 5, 5), Bar("b", "pushing", 2, 10), Bar("c", "waiting", 0, None)]) == Bar(
        "1 of 3 layers", "", 7, 15
    )


def test_a_table_of_thousands_shows_first_what_needs_a_person() -> None:
    rows = [row("running", project_id=str(n)) for n in range(5000)] + [row("failed", project_id="bad")]
    out = Console(file=io.StringIO(), record=True, width=120)
    out.print(screen_of(rows, 10))
    lines = out.export_text().splitlines()
    assert "7/bad" in lines[1] and lines[-1] == "… and 4994 more: 4994 running" and len(lines) <= 10


def test_a_program_can_watch_too(manager: CannedManager) -> None:
    """One line for what there is, one for each change, none for what stays; Ctrl-C is the way out."""
    manager.rows = [row("building"), row("building"), row("running"), row("running")]
    command = [*CLOUD_DEPLOY, "status", "7", "42", "--watch", "--json", "--url", manager.url]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as watching:
        out: IO[str] = watching.stdout  # type: ignore[assignment]
        assert [json.loads(out.readline())["phase"] for _ in range(2)] == ["building", "running"]
        watching.send_signal(signal.SIGINT)
        rest, _ = watching.communicate(timeout=20)
    assert (rest, watching.returncode) == ("", 0)


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        ("start ", {"7", "8"}),
        ("stop 7 4", {"42"}),
        ("logs 8 ", {"1"}),
        ("sta", {"start", "status"}),
        ("logs 9 ", set()),
    ],
)
def test_tab_offers_what_the_manager_knows(manager: CannedManager, words: str, offered: set[str]) -> None:
    """Project ids are numbers that nobody remembers."""
    manager.pages = [{"items": [row("running"), row("failed", user_id="8", project_id="1")], "next": None}]
    assert offered == tab(words, manager.url)


def test_tab_is_silent_where_no_manager_is() -> None:
    """An error in the middle of the line that one types would be in the way."""
    assert tab("start ", f"http://127.0.0.1:{free_port()}") == set()


def tab(words: str, manager: str) -> set[str]:
    """What bash is told, for `cloud-deploy WORDS` and Tab."""
    line = f"cloud-deploy {words}"
    count = len(line.split(" ")) - 1
    asked = {"_CLOUD_DEPLOY_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": str(count)}
    program = "import sys; sys.argv = ['cloud-deploy']; from cloud_manager.cli.main import main; main()"
    told = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, **asked, "CLOUD_MANAGER_URL": manager},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert told.stderr == ""
    return set(told.stdout.split())
