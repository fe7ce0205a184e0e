"""The `local` target: real supervisors and programs, images from memory."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil

from cloud_manager.clock import SystemClock
from cloud_manager.deployment import Key
from cloud_manager.settings import Settings
from cloud_manager.targets.local import LocalTarget
from cloud_manager.targets.local_health import is_free
from cloud_manager.targets.local_run import Timing
from tests.conformance.harness import Behaviour, answer_of
from tests.fakes.image_shelf import ImageShelf

SERVE = """
import os
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

WORD = {word!r}

class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        body = (str(os.getpid()) if self.path == "/pid" else WORD).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

print(WORD, "is up")
ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Handler).serve_forever()
"""
EXIT = """
import sys
print("cannot go on", {word!r})
sys.exit(3)
"""
QUICK = Timing(grace=5.0, drain=2.0, backoff=0.1, backoff_limit=0.5, stable=60.0, crashes=4, elsewhere=1.0)


class LocalHarness:
    name = "local"

    def __init__(self, folder: Path, **settings: Any) -> None:
        self.settings = Settings(state_dir=folder, local_target=True, **settings)
        self.shelf = ImageShelf()
        self.timing = QUICK
        self._targets: list[LocalTarget] = []
        self._ports: dict[Key, int] = {}
        self._foreign: list[subprocess.Popen[bytes]] = []

    def target(self) -> LocalTarget:
        target = LocalTarget(self.settings, self.shelf, SystemClock(), timing=self.timing)
        self._targets.append(target)
        return target

    def image(self, word: str, behaviour: Behaviour = "serve") -> dict[str, Any]:
        source = SERVE if behaviour == "serve" else EXIT
        return {"image": self.shelf.image({"server.py": source.format(word=word)})}

    async def ask(self, url: str) -> str | None:
        return await answer_of(url)

    async def instance(self, key: Key) -> str | None:
        seen = await self.target().observe(key)
        if seen.url is None:
            return None
        self._ports[key] = urlsplit(seen.url).port or 0
        return await self.ask(f"{seen.url}/pid")

    async def kill(self, key: Key) -> None:
        os.kill(int(await self.instance(key) or 0), signal.SIGKILL)

    async def leftovers(self, key: Key) -> list[str]:
        return await asyncio.to_thread(self._leftovers, key)

    def _leftovers(self, key: Key) -> list[str]:
        folder = self.settings.state_dir.resolve() / "local" / key.user_id / key.project_id
        files = [str(path) for path in folder.rglob("*") if "logs" not in path.relative_to(folder).parts]
        ports = [f"port {port}" for port in [self._ports.get(key)] if port and not is_free(port)]
        return [*files, *ports, *(f"process {process.pid}" for process in processes_of(folder))]

    async def foreign(self) -> Callable[[], Awaitable[bool]]:
        """A process with a mark like ours, and a project's folder whose owner is someone else."""
        env = {**os.environ, "CLOUD_DEPLOY_INSTANCE": "0123456789abcdef.1"}
        process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], env=env)
        self._foreign.append(process)
        theirs = self.settings.state_dir / "local" / "someone" / "else" / "revisions" / "precious"
        theirs.parent.mkdir(parents=True)
        theirs.write_text("theirs")

        async def untouched() -> bool:
            return process.poll() is None and theirs.read_text() == "theirs"

        return untouched

    async def aclose(self) -> None:
        """Whatever a failed test has left is dead."""
        for process in self._foreign:
            process.kill()
            process.wait()
        for left in processes_of(self.settings.state_dir.resolve()):
            with suppress(psutil.NoSuchProcess):  # a program dies with its supervisor
                left.kill()
        for target in self._targets:
            await target.aclose()


def processes_of(folder: Path) -> list[psutil.Process]:
    """Living processes that work in a folder or name it on their command line."""
    found = []
    for process in psutil.process_iter():
        try:
            words = [*process.cmdline(), process.cwd()]
            alive = process.status() != psutil.STATUS_ZOMBIE
        except (psutil.Error, OSError):
            continue
        if alive and any(word == str(folder) or word.startswith(f"{folder}/") for word in words):
            found.append(process)
    return found
