"""The builder's service as a process of its own, for tests that talk to it, kill it and start it again."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
from httpx_sse import connect_sse

from tests.integration.stack import until

ROOT = Path(__file__).parents[2]
BODY: dict[str, Any] = {"owner": "7/42", "source": "common/7/42/nn_model", "entrypoint": ["python", "main.py"]}


class Service:
    """`tests.fakes.pipeline` over a state folder. `go` lets its builds end; `runs` is what they noted."""

    def __init__(self, state_dir: Path, shared_root: Path | None = None, *, umask: int = -1, **env: str) -> None:
        """shared_root: then it is the real builder over those files. umask, env: of its process."""
        self.state_dir = state_dir
        self._shared_root = shared_root
        self._umask, self._env = umask, env
        self.state_dir.mkdir(parents=True, exist_ok=True)
        self._log = state_dir / "log"
        self.start()

    def start(self) -> None:
        self._log.write_text("")
        command = [sys.executable, "-m", "tests.fakes.pipeline", str(self.state_dir)]
        env = dict(os.environ)
        if self._shared_root:
            command = [sys.executable, "-m", "image_builder"]
            env |= {"STATE_DIR": str(self.state_dir), "SHARED_ROOT": str(self._shared_root), "IMAGE_BUILDER_PORT": "0"}
            env["WEB_PORT"] = "0"
        with self._log.open("w") as log:
            self.process = subprocess.Popen(
                command, cwd=ROOT, env=env | self._env, umask=self._umask, stdout=log, stderr=subprocess.STDOUT
            )
        self.url = until("the service to say its URL", self._url)
        self.http = httpx.Client(base_url=self.url, timeout=20, trust_env=False)

    def _url(self) -> str:
        assert self.process.poll() is None, f"the service died: {self.log}"
        found = re.search(r"http://127\.0\.0\.1:\d+", self.log)
        return found[0] if found else ""

    @property
    def log(self) -> str:
        return self._log.read_text()

    def kill(self) -> None:
        self.process.kill()
        self.ended()

    def ended(self, timeout: float = 10) -> int:
        """Wait until it is dead; its exit status."""
        self.http.close()
        return self.process.wait(timeout)

    def go(self) -> None:
        (self.state_dir / "go").touch()

    def runs(self) -> list[str]:
        """`begin`, `dead`, `end` of the builds, in order."""
        path = self.state_dir / "runs"
        return [line.split()[0] for line in path.read_text().splitlines()] if path.exists() else []

    def ask(self, **more: Any) -> dict[str, Any]:
        answer = self.http.post("/builds", json=BODY | more)
        assert answer.status_code in (200, 202), answer.text
        return dict(answer.json())

    def show(self, build_id: str) -> dict[str, Any]:
        return dict(self.http.get(f"/builds/{build_id}").raise_for_status().json())

    def wait(self, build_id: str, state: str) -> dict[str, Any]:
        return until(state, lambda: shown if (shown := self.show(build_id))["state"] == state else {}, 20)

    def events(self, build_id: str, **headers: str) -> list[dict[str, Any]]:
        """All events until the stream ends."""
        with connect_sse(self.http, "GET", f"/builds/{build_id}/events", headers=headers) as stream:
            return [event.json() | {"id": event.id} for event in stream.iter_sse()]


@contextmanager
def serving(state_dir: Path, shared_root: Path | None = None, *, umask: int = -1, **env: str) -> Iterator[Service]:
    service = Service(state_dir, shared_root, umask=umask, **env)
    try:
        yield service
    finally:
        service.kill()
