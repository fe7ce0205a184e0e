"""The `docker` target: real containers on a real Engine, images made there."""

from __future__ import annotations

import asyncio
import io
import json
import os
import subprocess
import tarfile
import uuid
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from cloud_manager.clock import SystemClock
from cloud_manager.deployment import Key
from cloud_manager.settings import Settings
from cloud_manager.targets.docker import DockerTarget
from cloud_manager.targets.docker_credentials import DockerLogin
from cloud_manager.targets.docker_engine import Engine
from cloud_manager.targets.docker_images import EngineImages
from cloud_manager.targets.docker_spec import LABEL
from tests import needs
from tests.conformance.harness import Behaviour, answer_of
from tests.fakes.image_shelf import ImageShelf

SERVER = """
import os, sys, time, uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

WORD = os.environ["WORD"]
INSTANCE = uuid.uuid4().hex

class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        answer = {"/instance": INSTANCE, "/secret": os.environ.get("API_KEY", "")}.get(self.path, WORD)
        body = answer.encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *words):
        pass

if os.environ["BEHAVIOUR"] == "exit":
    print("cannot go on", WORD)
    sys.exit(3)
while WORD == "mute":
    print(WORD, "says nothing")
    time.sleep(600)
while WORD == "eat":
    EATEN = [*globals().get("EATEN", []), bytes(b"x" * 2**20)]
print(WORD, "is up")
ThreadingHTTPServer(("", int(os.environ["PORT"])), Handler).serve_forever()
"""


class Docker:
    """The docker program, for what the tests do behind the target's back."""

    def __init__(self, host: str) -> None:
        self.host = host
        self._program = needs.program("docker")

    def __call__(self, *words: str, data: bytes | None = None, check: bool = True) -> str:
        env = {**os.environ, "DOCKER_HOST": self.host, "DOCKER_BUILDKIT": "0"}
        done = subprocess.run([self._program, *words], input=data, capture_output=True, env=env, check=False)
        assert done.returncode == 0 or not check, f"docker {words}: {done.stderr.decode()}"
        return done.stdout.decode().strip()

    def build(self, tag: str, dockerfile: str, *, network: str = "default", **files: str) -> str:
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w") as tar:
            for name, text in {"Dockerfile": dockerfile, **files}.items():
                info = tarfile.TarInfo(name)
                info.size = len(text.encode())
                tar.addfile(info, io.BytesIO(text.encode()))
        self("build", "-q", "--network", network, "-t", tag, "-", data=buffer.getvalue())
        return tag


def server_image(docker: Docker, base: str, tag: str) -> str:
    """What all images of the tests are made of: a base with python, and the server."""
    return docker.build(tag, f'FROM {base}\nADD server.py /\nCMD ["python3", "/server.py"]', **{"server.py": SERVER})


class DockerHarness:
    """base: a `server_image`."""

    name = "docker"

    def __init__(self, host: str, base: str, folder: Path, **settings: Any) -> None:
        self.docker = Docker(host)
        self.owner = f"t{uuid.uuid4().hex[:10]}"
        self.settings = Settings(state_dir=folder, docker_host=host, docker_owner=self.owner, **settings)
        self.base = base
        self._images: list[str] = []
        self._targets: list[DockerTarget] = []

    def target(self, host: str = "", *, python: str = "") -> DockerTarget:
        """host: of another Engine. python: the image of fronts for programs without python."""
        engine, clock = Engine(host or self.docker.host), SystemClock()
        images = EngineImages(engine, ImageShelf(), DockerLogin(self.settings.state_dir), clock, self.owner)
        images.python_image = python or self.base
        target = DockerTarget(self.settings, engine, images, clock)
        self._targets.append(target)
        return target

    def image(self, word: str, behaviour: Behaviour = "serve") -> dict[str, Any]:
        """Programs called `mute` and `eat` behave as they are called."""
        tag = f"{self.owner}:{behaviour}-{word}"
        if tag not in self._images:
            self.docker.build(tag, f"FROM {self.base}\nENV WORD={word} BEHAVIOUR={behaviour}")
            self._images.append(tag)
        return {"image_uri": tag}

    def without_python(self, word: str) -> str:
        """An image whose interpreter nobody finds by its name."""
        tag = f"{self.owner}:snake-{word}"
        hidden = 'RUN at="$(command -v python3)" && mv "$(readlink -f "$at")" /snake && rm -f "$at"'
        start = 'ENTRYPOINT ["/snake", "/server.py"]\nCMD []'
        return self.docker.build(tag, f"FROM {self.base}\nENV WORD={word} BEHAVIOUR=serve\n{hidden}\n{start}")

    async def ask(self, url: str) -> str | None:
        return await answer_of(url)

    async def instance(self, key: Key) -> str | None:
        target = self.target()
        seen = await target.observe(key)
        return await self.ask(f"{seen.url}/instance") if seen.url else None

    async def kill(self, key: Key) -> None:
        """As a bug would: the program's own process dies."""
        pid = self.inspect(self.programs(key)[0])["State"]["Pid"]
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        os.kill(int(children[0]), 9)

    def inspect(self, name: str) -> Any:
        return json.loads(self.docker("inspect", name))[0]

    def programs(self, key: Key) -> list[str]:
        return self._named("ps", "-a", key, role="program")

    def fronts(self, key: Key) -> list[str]:
        return self._named("ps", "-a", key, role="front")

    def _named(self, *words: Any, role: str = "") -> list[str]:
        *command, key = words
        labels = {"owner": self.owner, "user": key.user_id, "project": key.project_id} | (
            {"role": role} if role else {}
        )
        filters = [word for name, value in labels.items() for word in ("-f", f"label={LABEL}.{name}={value}")]
        return self.docker(*command, "-q", *filters).split()

    def replace(self, program: str) -> None:
        """Another container, of the same name, labels and network, in the place of one."""
        about = self.inspect(program)
        (network,) = about["NetworkSettings"]["Networks"]
        labels = [word for name, value in about["Config"]["Labels"].items() for word in ("-l", f"{name}={value}")]
        self.docker("rm", "-f", program)
        command = ("-e", "WORD=another", "-e", "BEHAVIOUR=serve", "-e", "PORT=8080", self.base)
        self.docker("run", "-d", "--init", "--network", network, "--name", about["Name"].lstrip("/"), *labels, *command)

    async def leftovers(self, key: Key) -> list[str]:
        commands = (("ps", "-a"), ("network", "ls"), ("volume", "ls"))
        return await asyncio.to_thread(lambda: [name for words in commands for name in self._named(*words, key)])

    async def foreign(self) -> Callable[[], Awaitable[bool]]:
        """A container with labels much like ours, of another installation."""
        labels = {"owner": f"{self.owner}-other", "user": "someone", "project": "else", "role": "program"}
        words = [word for name, value in labels.items() for word in ("-l", f"{LABEL}.{name}={value}")]
        name = f"{self.owner}-s-someone-else"
        self.docker("run", "-d", "--init", "--network", "none", "--name", name, *words, self.base, "sleep", "600")

        async def untouched() -> bool:
            return bool(self.inspect(name)["State"]["Running"])

        return untouched

    async def aclose(self) -> None:
        """Whatever a failed test has left is gone."""
        for target in self._targets:
            await target.aclose()
        await asyncio.to_thread(self._clear)

    def _clear(self) -> None:
        for listing, removal in (
            (("ps", "-aq"), ("rm", "-fv")),
            (("network", "ls", "-q"), ("network", "rm")),
            (("volume", "ls", "-q"), ("volume", "rm")),
        ):
            for _ in range(20):
                found = self.docker(*listing, "-f", f"name={self.owner}").split()
                if not found:
                    break
                self.docker(*removal, *found, check=False)  # some may be on their way
        names = self.docker("images", "--format", "{{.Repository}}:{{.Tag}}").split()
        ours = [name for name in names if self.owner in name]
        if ours:
            self.docker("rmi", "-f", *ours)
