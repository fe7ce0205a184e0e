"""The real thing in a folder of its own: builder and manager as processes, called as TANGO's project manager calls."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import psutil
import requests

from tests.parallel import free_port

T = TypeVar("T")

HEADERS = {"Content-Type": "text/plain"}  # what the project manager sends, on GETs too

HELLO = """
import json, os, sys
from http.server import BaseHTTPRequestHandler, HTTPServer

class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        body = json.dumps({"text": "TEXT", "pid": os.getpid()}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        print("asked", flush=True)

print("listening on", os.environ["PORT"], flush=True)
HTTPServer(("127.0.0.1", int(os.environ["PORT"])), Handler).serve_forever()
"""

YAML = """\
build:
  base_image: scratch
  components:
    custom_packages:
      pypi: []
deploy:
  type: local
  entrypoint: server.py
"""


def until(what: str, check: Callable[[], T], timeout: float = 60.0) -> T:
    """The first true answer of `check`, asked every 50 ms; fails with `what` and the last answer."""
    end = time.monotonic() + timeout
    tick = threading.Event()
    answer = check()
    while not answer:
        assert time.monotonic() < end, f"waited {timeout:.0f} s for {what}; last answer: {answer!r}"
        tick.wait(0.05)
        answer = check()
    return answer


class Stack:
    """Builder and manager over one shared root and one state folder; either may be killed and started again."""

    def __init__(
        self, root: Path, *, database_url: str = "", managers: int = 1, builder_state: Path | None = None, **env: str
    ) -> None:
        self.root = root
        self.builder_state = builder_state or root / "state"
        self.shared = root / "shared"
        self.state = root / "state"
        self.shared.mkdir(exist_ok=True)
        self.state.mkdir(exist_ok=True)
        self.builder_port, self.web_port = free_port(), free_port()
        self.manager_ports = [free_port() for _ in range(managers)]
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.env = {
            **os.environ,
            "SHARED_ROOT": str(self.shared),
            "STATE_DIR": str(self.state),
            "DATABASE_URL": database_url,
            "IMAGE_BUILDER_URL": f"http://127.0.0.1:{self.builder_port}",
            "IMAGE_BUILDER_PORT": str(self.builder_port),
            "WEB_PORT": str(self.web_port),
            "CLOUD_MANAGER_URL": f"http://127.0.0.1:{self.manager_ports[0]}",
            "LOCAL_TARGET": "1",
            "PYTHONWARNINGS": "default",
            **env,
        }

    # -- processes ---------------------------------------------------------------------------------------------

    def start(self, *names: str) -> None:
        for name in names:
            module = "image_builder" if name == "builder" else "cloud_manager"
            log = (self.root / f"{name}.log").open("ab")
            self.processes[name] = subprocess.Popen(
                [sys.executable, "-m", module],
                env=self.environment(name),
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
            log.close()

    def environment(self, name: str) -> dict[str, str]:
        if name == "builder":
            return self.env | {"STATE_DIR": str(self.builder_state)}
        return self.env | {"CLOUD_MANAGER_PORT": str(self.port(name))}

    def up(self) -> Stack:
        names = ["builder", *self.managers]
        self.start(*names)
        for name in names:
            self.wait_healthy(name)
        return self

    @property
    def managers(self) -> list[str]:
        return ["manager"] + [f"manager{number}" for number in range(2, len(self.manager_ports) + 1)]

    def port(self, name: str) -> int:
        return self.builder_port if name == "builder" else self.manager_ports[self.managers.index(name)]

    def wait_healthy(self, name: str, timeout: float = 60) -> None:
        until(f"{name} to be healthy\n{self.log(name)}", lambda: self.healthy(name), timeout)

    def healthy(self, name: str) -> bool:
        assert self.processes[name].poll() is None, f"{name} died:\n{self.log(name)}"
        with contextlib.suppress(requests.ConnectionError, requests.Timeout):
            return requests.get(f"http://127.0.0.1:{self.port(name)}/healthz", timeout=5).ok
        return False

    def kill(self, *names: str) -> None:
        """kill -9, and see it dead."""
        for name in names:
            self.processes[name].kill()
        for name in names:
            self.processes.pop(name).wait()

    def terminate(self, name: str, timeout: float = 15) -> int:
        process = self.processes.pop(name)
        process.send_signal(signal.SIGTERM)
        return process.wait(timeout)

    def close(self) -> None:
        self.kill(*list(self.processes))
        for process in self.service_processes():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()

    def log(self, name: str) -> str:
        path = self.root / f"{name}.log"
        return path.read_text(errors="replace")[-4000:] if path.exists() else ""

    def service_processes(self) -> list[psutil.Process]:
        """Every process that runs below the local target's folder: supervisors, programs, their children."""
        home = str(self.state / "local")
        return [process for process in psutil.process_iter() if _belongs(process, home)]

    def programs(self, user: str = "7", project: str = "42") -> list[psutil.Process]:
        """The processes whose working folder is in the unpacked image of the project."""
        home = str(self.state / "local" / user / project)
        return [process for process in psutil.process_iter() if _cwd(process).startswith(home)]

    # -- projects ----------------------------------------------------------------------------------------------

    def project(
        self, user: str = "7", project: str = "42", *, text: str = "hello", yaml: str = YAML, program: str = HELLO
    ) -> Path:
        """Write (or change) a project as the code generator does; returns its folder."""
        folder = self.shared / "common" / user / project
        (folder / "nn_model").mkdir(parents=True, exist_ok=True)
        (folder / "nn_model" / "server.py").write_text(program.replace("TEXT", text))
        (folder / "deployment.yaml").write_text(yaml)
        return folder

    # -- calls -------------------------------------------------------------------------------------------------

    def get(self, path: str, user: str = "7", project: str = "42", manager: str = "manager") -> requests.Response:
        return requests.get(
            f"http://127.0.0.1:{self.port(manager)}{path}",
            headers=HEADERS,
            params={"user_id": user, "project_id": project},
            timeout=30,
        )

    def begin(self, user: str = "7", project: str = "42", manager: str = "manager") -> None:
        answer = self.get("/start", user, project, manager)
        assert (answer.status_code, answer.text) == (200, "started")

    def word(self, user: str = "7", project: str = "42", manager: str = "manager") -> str:
        """The status as the project manager sees it; '' while the manager does not answer."""
        try:
            answer = self.get("/status_request", user, project, manager)
        except (requests.ConnectionError, requests.Timeout):
            return ""
        word = answer.text.replace('"', "")
        assert len(word) <= 50 or answer.status_code >= 400, answer.text
        return word

    def wait(
        self, *words: str, user: str = "7", project: str = "42", manager: str = "manager", timeout: float = 90
    ) -> str:
        """Wait for one of `words`; a `failed` that is not among them ends the wait with the reason."""

        def look() -> str:
            word = self.word(user, project, manager)
            if word == "failed" and "failed" not in words:
                raise AssertionError(
                    f"failed: {self.show(user, project, manager)}\n{self.story(user, project, manager)}"
                )
            return word if word in words else ""

        return until(f"{user}/{project} to be {' or '.join(words)}\n{self.log(manager)}", look, timeout)

    def api(self, path: str, manager: str = "manager") -> Any:
        return requests.get(f"http://127.0.0.1:{self.port(manager)}/api/v1{path}", timeout=30).json()

    def show(self, user: str = "7", project: str = "42", manager: str = "manager") -> dict[str, Any]:
        shown: dict[str, Any] = self.api(f"/deployments/{user}/{project}", manager)
        return shown

    def events(self, user: str = "7", project: str = "42", manager: str = "manager") -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = self.api(f"/deployments/{user}/{project}/events?limit=1000", manager)["items"]
        return rows

    def story(self, user: str = "7", project: str = "42", manager: str = "manager") -> str:
        return "\n".join(f"{row['kind']}: {row['message']}" for row in self.events(user, project, manager))

    def answer(self, user: str = "7", project: str = "42") -> dict[str, Any]:
        """What the service itself says."""
        url = self.show(user, project)["url"]
        reply: dict[str, Any] = requests.get(url, timeout=10).json()
        return reply


def _cwd(process: psutil.Process) -> str:
    try:
        return str(process.cwd()) if process.status() != psutil.STATUS_ZOMBIE else ""
    except (psutil.Error, OSError):
        return ""


def _belongs(process: psutil.Process, home: str) -> bool:
    try:
        if process.status() == psutil.STATUS_ZOMBIE:
            return False
        return _cwd(process).startswith(home) or any(home in word for word in process.cmdline())
    except (psutil.Error, OSError):
        return False


@contextlib.contextmanager
def running(root: Path, **options: Any) -> Iterator[Stack]:
    stack = Stack(root, **options)
    try:
        yield stack.up()
    finally:
        stack.close()
