"""What every demo does: folders and ports, the calls of TANGO's project manager, the words on the screen."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx
from demo_samples import DemoFailed, Sample
from rich.console import Console

from cloud_manager.cli import follow, up
from cloud_manager.cli.client import Manager

STATE = Path(os.environ.get("DEMO_STATE") or Path(__file__).resolve().parent.parent / ".state" / "demo").absolute()
USER = "demo"

POLL = 2.0  # seconds between two status requests of the project manager
LONGEST_WORD = 50  # characters; a longer body is an error to it
PATIENCE = 900.0  # seconds; torch over a slow line takes minutes, once
STOP_WITHIN = 120.0  # seconds; unpacked torch is a thousand folders to remove

out = Console(highlight=False, soft_wrap=True)

# --- the project manager's way ----------------------------------------------------------------------------------


def deploy(places: up.Places, manager: Manager, name: str) -> str:
    """Call /start, then ask every two seconds, while the progress is drawn. Returns the service's URL."""
    after = follow.last_sequence(manager, USER, name)  # of earlier runs
    heading(f"GET /start?user_id={USER}&project_id={name}, then GET /status_request every {POLL:.0f} s")
    out.print(f"  /start           [bold]{tango(places, '/start', name)}[/]")
    word, asked, end = "", 0.0, time.monotonic() + PATIENCE
    with follow.Follower(manager, USER, name, out, after=after) as follower:
        row = follower.look()
        while word != "running" or not follow.is_up_or_failed(row):
            if time.monotonic() - asked >= POLL:
                asked = time.monotonic()
                word = say_new(word, tango(places, "/status_request", name))
            row = follower.look()
            if word == "failed":
                raise reason(row)
            if time.monotonic() > end:
                raise DemoFailed(f"the service is not up after {PATIENCE:.0f} s: {word}", "Look at the events above.")
            follow.pause()
    return str(row["url"])


def tango(places: up.Places, path: str, name: str) -> str:
    """One GET as TANGO's project manager sends it, and the word that it reads from the body."""
    answer = httpx.get(
        places.manager_url + path,
        headers={"Content-Type": "text/plain"},
        params={"user_id": USER, "project_id": name},
        timeout=30,
        trust_env=False,
    )
    word = answer.text.replace('"', "")
    if answer.is_error or len(word) > LONGEST_WORD:
        raise DemoFailed(f"{path} answered {answer.status_code}: {word}", "Mend what it names; then run again.")
    return word


def say_new(old: str, new: str) -> str:
    if new != old:
        out.print(f"  /status_request  [bold]{new}[/]")
    return new


def reason(row: dict[str, Any]) -> DemoFailed:
    problem = row["problem"] or {"cause": "the deployment failed", "fix": "Look at the events above."}
    return DemoFailed(problem["cause"], problem["fix"])


def ask(sample: Sample, http: httpx.Client, url: str, manager: Manager, name: str) -> str:
    """The sample's own question; where the answer is not right, the service's last log lines are shown."""
    try:
        return sample.ask(http, url)
    except (DemoFailed, httpx.HTTPError) as error:
        out.print(f"[dim]the last lines of the service's log:[/]\n{plain(manager.logs(USER, name, tail=15))}")
        if isinstance(error, DemoFailed):
            raise
        raise DemoFailed(f"the service at {url} does not answer: {error}", "Read its log, above.") from error


@contextlib.contextmanager
def stopped_at_the_end(places: up.Places, manager: Manager, name: str) -> Iterator[None]:
    """/stop, and wait for `stopped`, whatever happened."""
    try:
        yield
    finally:
        with up.deaf():
            heading(f"GET /stop?user_id={USER}&project_id={name}")
            try:
                stop(places, manager, name)
            except httpx.TransportError as error:
                raise DemoFailed(
                    f"the manager is gone: {error}", "Run the demo again: it mends what is left."
                ) from error


def stop(places: up.Places, manager: Manager, name: str) -> None:
    if manager_knows(manager, name):
        out.print(f"  /stop            [bold]{tango(places, '/stop', name)}[/]")
        word, end = "", time.monotonic() + STOP_WITHIN
        while word != "stopped":
            if time.monotonic() > end:
                raise DemoFailed(f"the service is still {word} after {STOP_WITHIN:.0f} s", "Run the demo again.")
            word = say_new(word, tango(places, "/status_request", name))
            follow.pause()


def manager_knows(manager: Manager, name: str) -> bool:
    return any((row["user_id"], row["project_id"]) == (USER, name) for row in manager.deployments())


# --- folders, ports, words --------------------------------------------------------------------------------------


@contextlib.contextmanager
def alone(home: Path, name: str) -> Iterator[None]:
    """Two demos of one sample would fight over one state folder."""
    home.mkdir(parents=True, exist_ok=True)
    with (home / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise DemoFailed(f"a demo of {name} is running already", "End that one first, with Ctrl-C.") from error
        yield


def choose_places(home: Path, *, local: bool) -> up.Places:
    """The usual ports if they are free, else any."""
    ports = {"cloud manager": 8890, "image builder": 7007, "GUI": 8080}
    for service, port in ports.items():
        if not up.is_free(port):
            out.print(f"port {port} is in use, so the {service} takes another")
            ports[service] = 0
    manager, builder, gui = ports.values()
    return up.settled(up.Places(home / "shared", home / "state", manager, builder, local=local, web_port=gui))


def copy(sample: Sample, yaml: str, shared_root: Path) -> Path:
    """Put the sample where TANGO's code generator would put it, with this file of its as the deployment.yaml."""
    target = shared_root / "common" / USER / sample.folder.name
    shutil.rmtree(target, ignore_errors=True)
    others = shutil.ignore_patterns("__pycache__", ".gitignore", "train.py", "deployment*.yaml")
    shutil.copytree(sample.folder, target, ignore=others)
    shutil.copyfile(sample.folder / yaml, target / "deployment.yaml")
    return target


def look_around(places: up.Places, project: Path, name: str, rows: Iterable[tuple[str, str]]) -> None:
    """Where everything is; rows: what is particular to the target."""
    cli = f"{short(Path(sys.executable).parent)}/cloud-deploy"
    tail = f"--url {places.manager_url}" if places.manager_port != 8890 else ""
    heading("look around")
    common = [
        ("the GUI", places.web_url),
        ("the manager's API", f"{places.manager_url}/docs"),
        ("the builder's API", f"{places.builder_url}/docs"),
        ("change it", f"edit {short(project / 'nn_model' / 'server.py')}"),
        ("deploy it again", f"{cli} start {USER} {name} --wait {tail}"),
        ("see how it is", f"{cli} status {USER} {name} {tail}"),
        ("its log, its history", f"{cli} logs {USER} {name} {tail}; {cli} events {USER} {name} {tail}"),
    ]
    for what, where in [*rows, *common]:
        out.print(f"  {what:<22}{plain(where.rstrip())}")


def say(text: str) -> None:
    out.print(f"  {plain(text)}".replace("\n", "\n  "))


def wait_for_interrupt(daemons: Sequence[up.Daemon]) -> None:
    """Raises CannotServe when one of them has died."""
    out.print("\n[bold]Ctrl-C stops everything.[/]")
    try:
        while True:
            for daemon in daemons:
                daemon.check_alive(wait=0.5)
    except KeyboardInterrupt:
        out.print()


def heading(text: str) -> None:
    out.print(f"[bold cyan]==>[/] {plain(text)}")


def plain(text: str) -> str:
    """Text that may hold brackets, which rich would take for markup."""
    return text.replace("[", r"\[")


def short(path: Path) -> str:
    with contextlib.suppress(ValueError):
        return str(path.relative_to(Path.cwd()))
    return str(path)
