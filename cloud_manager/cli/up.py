"""Builder and manager as child processes of one command: started, watched and stopped together."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import httpx

from cloud_manager.errors import DeployError

HOST = "127.0.0.1"
HEALTHY_WITHIN = 60.0  # seconds; a cold start on a slow disk takes about ten
TAIL_LINES = 15
STOP_WITHIN = {"cloud_manager": 5.0, "image_builder": 4.0}  # seconds before SIGKILL; together under ten


class CannotServe(DeployError):
    code = "cannot_serve"


@dataclass(frozen=True, slots=True)
class Places:
    """Where the pair works. A port of 0 means any free one, until `settled`."""

    shared_root: Path
    state_dir: Path
    manager_port: int = 8890
    builder_port: int = 7007
    local: bool = False
    web_port: int = 0
    """Of the GUI. 0: 8080, or any free one where that is taken."""

    @property
    def web_url(self) -> str:
        return f"http://{HOST}:{self.web_port}"

    @property
    def manager_url(self) -> str:
        return f"http://{HOST}:{self.manager_port}"

    @property
    def builder_url(self) -> str:
        return f"http://{HOST}:{self.builder_port}"

    @property
    def logs(self) -> Path:
        return self.state_dir / "logs"

    def environment(self) -> dict[str, str]:
        """What the two processes are told on top of this one's environment."""
        told = {
            "SHARED_ROOT": str(self.shared_root),
            "STATE_DIR": str(self.state_dir),
            "IMAGE_BUILDER_HOST": HOST,
            "IMAGE_BUILDER_PORT": str(self.builder_port),
            "IMAGE_BUILDER_URL": self.builder_url,
            "WEB_HOST": HOST,
            "WEB_PORT": str(self.web_port),
            "CLOUD_MANAGER_URL": self.manager_url,
            "CLOUD_MANAGER_HOST": HOST,
            "CLOUD_MANAGER_PORT": str(self.manager_port),
        }
        return told | ({"LOCAL_TARGET": "1"} if self.local else {})


class Daemon:
    """One child process in a session of its own: a Ctrl-C in the terminal reaches it only through us."""

    def __init__(self, module: str, url: str, log: Path, *arguments: str) -> None:
        self.module, self.url, self.log = module, url, log
        self._arguments = arguments
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, environment: Mapping[str, str]) -> None:
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", self.module, *self._arguments],
                env=dict(environment),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def wait_healthy(self) -> None:
        end = time.monotonic() + HEALTHY_WITHIN
        while not self._answers():
            self.check_alive(wait=0.1)
            if time.monotonic() > end:
                raise CannotServe(
                    f"{self.module} does not answer at {self.url}/healthz after {HEALTHY_WITHIN:.0f} s",
                    f"Read {self.log}; its last lines:\n{self.tail()}",
                )

    def check_alive(self, *, wait: float = 0.0) -> None:
        """Returns after `wait` seconds if the process lives on.

        Raises:
            CannotServe: it has ended; the fix shows its last lines.
        """
        if self._process is None:
            raise RuntimeError(f"{self.module}: start() comes first")
        with contextlib.suppress(subprocess.TimeoutExpired):
            code = self._process.wait(timeout=wait)
            raise CannotServe(
                f"{self.module} ended with exit status {code}", f"Read {self.log}; its last lines:\n{self.tail()}"
            )

    def stop(self, within: float) -> None:
        """SIGTERM, then SIGKILL to what is left of its group; it is gone when this returns."""
        if self._process is None:
            return
        if self._process.poll() is None:
            self._process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(timeout=within)
        with contextlib.suppress(ProcessLookupError, PermissionError):  # macOS says EPERM for a group of zombies
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._process = None

    def tail(self) -> str:
        try:
            lines = self.log.read_text(errors="replace").splitlines()
        except OSError as error:
            return f"  (the log cannot be read: {error})"
        return "\n".join(f"  {line}" for line in lines[-TAIL_LINES:]) or "  (nothing)"

    def _answers(self) -> bool:
        try:
            return httpx.get(f"{self.url}/healthz", timeout=2, trust_env=False).is_success
        except httpx.TransportError:
            return False


class Pair:
    """The image builder and the cloud manager of `places`."""

    def __init__(self, places: Places) -> None:
        self.places = places
        self.builder = Daemon("image_builder", places.builder_url, places.logs / "image_builder.log")
        self.manager = Daemon("cloud_manager", places.manager_url, places.logs / "cloud_manager.log")

    def start(self, tell: Callable[[str], None]) -> None:
        """Both answer their health check when this returns; `tell` hears what is being waited for.

        Raises:
            CannotServe: a port is taken, a folder cannot be written, or a process died or stays silent.
        """
        make_folders(self.places)
        for port, name in ((self.places.builder_port, "image builder"), (self.places.manager_port, "cloud manager")):
            require_free(port, name)
        if not is_free(self.places.web_port):
            tell(f"port {self.places.web_port}, meant for the GUI, is in use: there will be no GUI")
        environment = {**os.environ, **self.places.environment()}
        for daemon in (self.builder, self.manager):
            daemon.start(environment)
        for daemon in (self.builder, self.manager):
            tell(f"waiting for {daemon.module} at {daemon.url}")
            daemon.wait_healthy()

    def watch(self) -> None:
        """Returns never; ends with CannotServe when one of the two has died."""
        while True:
            for daemon in (self.builder, self.manager):
                daemon.check_alive(wait=0.5)

    def stop(self) -> None:
        """Within ten seconds, the manager first, so that it does not complain of a missing builder."""
        for daemon in (self.manager, self.builder):
            daemon.stop(STOP_WITHIN[daemon.module])


@contextlib.contextmanager
def running(places: Places, tell: Callable[[str], None]) -> Iterator[Pair]:
    """The pair, stopped at the end whatever happens; a signal meanwhile waits until that is done."""
    pair = Pair(places)
    try:
        pair.start(tell)
        yield pair
    finally:
        with deaf():
            pair.stop()


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """A polite kill and a closed terminal end the command as Ctrl-C does."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with _handling((signal.SIGTERM, signal.SIGHUP), interrupt):
        yield


@contextlib.contextmanager
def deaf() -> Iterator[None]:
    """For a clean-up of known length that must not be cut short."""
    with _handling((signal.SIGINT, signal.SIGTERM, signal.SIGHUP), signal.SIG_IGN):
        yield


@contextlib.contextmanager
def _handling(signals: tuple[signal.Signals, ...], handler: Callable[..., None] | signal.Handlers) -> Iterator[None]:
    before = {number: signal.signal(number, handler) for number in signals}
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)


def settled(places: Places) -> Places:
    """The same with a free port instead of each 0."""
    return Places(
        places.shared_root,
        places.state_dir,
        places.manager_port or free_port(),
        places.builder_port or free_port(),
        places.local,
        places.web_port or (8080 if is_free(8080) else free_port()),
    )


def is_free(port: int) -> bool:
    """No one listens on this port of the loopback address."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def require_free(port: int, name: str) -> None:
    if not is_free(port):
        raise CannotServe(
            f"port {port}, meant for the {name}, is in use",
            f"Stop what listens there (`lsof -i :{port}` shows it), or choose others with --ports MANAGER:BUILDER.",
        )


def make_folders(places: Places) -> None:
    for folder, option in ((places.shared_root, "--shared-root"), (places.logs, "--state-dir")):
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise CannotServe(
                f"the folder {folder} cannot be made: {error.strerror}", f"Give another with {option} DIR."
            ) from error
