"""The twin for tests: in this process, or as one of its own that can be killed."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import cache
from pathlib import Path

from gcp_emulator.accounts import Accounts, new_account
from gcp_emulator.emulator import Running, running, servers_of
from gcp_emulator.hosts import Backend
from gcp_emulator.http_server import Server
from gcp_emulator.settings import Host, Settings
from gcp_emulator.state import State
from gcp_emulator.twin import Twin, open_twin

ROOT = Path(__file__).resolve().parents[2]
REGISTRY = "us-central1-docker.pkg.dev"


@asynccontextmanager
async def emulated(
    folder: Path,
    others: Callable[[Twin], dict[Backend, Server]] = lambda _: {},
    host: Host | None = None,
    **settings: object,
) -> AsyncIterator[tuple[Twin, Running]]:
    """The twin in this process; `others` in the place of servers of its own. host: else one that knows nobody."""
    chosen = Settings.model_validate({"state": folder, **settings})
    keep_account(chosen)
    twin = open_twin(chosen)
    try:
        async with running(twin, {**servers_of(twin), **others(twin)}, host or Host()) as up:
            yield twin, up
    finally:
        twin.state.close()


def keep_account(settings: Settings) -> None:
    """Keys take long to make: one for all tests."""
    state = State(settings.state)
    Accounts(state).keep(_account(settings.service_account))
    state.close()


_account = cache(new_account)


class Emulator:
    """`python -m gcp_emulator`, and other programs that know of it by its environment file alone."""

    def __init__(self, state: Path, *arguments: str) -> None:
        self.state = state
        self._arguments = arguments
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        command = [sys.executable, "-m", "gcp_emulator", "--state", str(self.state), *self._arguments]
        self._process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert self._process.stdout and self._process.stderr
        for line in self._process.stdout:
            if line.startswith("ready"):
                return
        raise AssertionError(self._process.stderr.read())

    @property
    def pid(self) -> int:
        assert self._process
        return self._process.pid

    def kill(self, number: int = signal.SIGKILL) -> None:
        process, self._process = self._process, None
        if process:
            process.send_signal(number)
            process.communicate(timeout=20)

    @property
    def variables(self) -> dict[str, str]:
        words = (shlex.split(line)[1] for line in (self.state / "environment").read_text().splitlines())
        return dict(word.split("=", 1) for word in words)

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        """In a shell that knows nothing but what a login gives, and the environment file."""
        bare = {name: os.environ[name] for name in ("PATH", "HOME", "TMPDIR") if name in os.environ}
        return subprocess.run(
            ["sh", "-c", f'. {shlex.quote(str(self.state / "environment"))}; exec "$@"', "sh", *command],
            env=bare, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip

    def python(self, script: str) -> str:
        """What the script printed."""
        done = self.run(sys.executable, "-W", "ignore::FutureWarning", "-c", script)
        assert done.returncode == 0, done.stderr
        return done.stdout
