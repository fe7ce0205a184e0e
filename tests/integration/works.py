"""Whole projects, published by the real builder through the command line, and the containers that run them."""

from __future__ import annotations

import json
import secrets
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from packaging.utils import canonicalize_name

from tests import needs
from tests.image_builder.service import Service
from tests.integration.judges import run
from tests.integration.stack import until

SAMPLES = Path(__file__).parents[2] / "samples"

APT = """\
build:
  components:
    libs: [humanize]
    custom_packages:
      apt: [vim, hello]
deploy:
  type: docker
  entrypoint: [server.py]
"""

OWN = """\
build:
  engine: docker
deploy:
  type: docker
  entrypoint: [server.py]
"""
DOCKERFILE = """\
FROM {base}
RUN python3 -m venv --system-site-packages /venv
ENV PATH=/venv/bin:/usr/bin:/bin
COPY . .
RUN mkdir humanize && echo 'def precisedelta(*_, **__): return "a while"' >humanize/__init__.py
"""


@dataclass
class Works:
    """A builder, a registry that it publishes to, and an Engine that runs what is published."""

    service: Service
    shared: Path
    registry: str
    base: str
    docker_host: str
    _made: dict[str, dict[str, Any]] = field(default_factory=dict)

    def image(self, name: str) -> dict[str, Any]:
        """The build's status of the project of this name, made once: `hello`, `digits`, `apt`, `own`."""
        if name not in self._made:
            self._made[name] = self.published(getattr(self, f"_{name}")())
        return self._made[name]

    def published(self, project: Path) -> dict[str, Any]:
        """The status of a build, as `cloud-deploy build --push --json` says it."""
        push = f"{self.registry}/judged/{secrets.token_hex(4)}:1"
        words = [sys.executable, "-m", "cloud_manager.cli.main", "build", project, "--push", push]
        said = run(*words, "--base", self.base, "--builder", self.service.url, "--json", SHARED_ROOT=str(self.shared))
        return dict(json.loads(said))

    def _hello(self) -> Path:
        return Path(shutil.copytree(SAMPLES / "hello", self.shared / "hello"))

    def _digits(self) -> Path:
        if not (SAMPLES / "digits" / "nn_model" / "digits.pt").exists():
            needs.missing("samples/digits has no weights: make demo SAMPLE=digits ONCE=1 trains them")
        return Path(shutil.copytree(SAMPLES / "digits", self.shared / "digits"))

    def _apt(self) -> Path:
        folder = Path(shutil.copytree(SAMPLES / "hello", self.shared / "apt"))
        (folder / "deployment.yaml").write_text(APT)
        return folder

    def _own(self) -> Path:
        folder = Path(shutil.copytree(SAMPLES / "hello", self.shared / "own"))
        (folder / "deployment.yaml").write_text(OWN)
        (folder / "nn_model" / "Dockerfile").write_text(DOCKERFILE.format(base=self.base))
        return folder

    def packages(self, status: dict[str, Any]) -> dict[str, str]:
        """Name -> version of the wheels in an image, as its bill of materials has them."""
        bill = self.service.http.get(f"/images/{status['image']['digest']}/sbom").raise_for_status().json()
        rows = bill["components"]
        return {row["name"]: row["version"] for row in rows if ".whl" in row.get("purl", "")}

    @contextmanager
    def container(self, image: str) -> Iterator[Container]:
        """Pulled and started; when this is left neither container nor image is there."""
        docker = (needs.program("docker"), "-H", self.docker_host)
        run(*docker, "pull", "-q", image)
        try:
            # Asked from inside: no test depends on the bridge of the machine's engine.
            opened = Container(docker, run(*docker, "run", "-d", "--network", "none", image).strip())
            try:
                yield opened
            finally:
                run(*docker, "rm", "-f", "-v", opened.id)
        finally:
            run(*docker, "rmi", "-f", image)


@dataclass(frozen=True)
class Container:
    docker: tuple[str, ...]
    id: str

    def say(self, *argv: str) -> str:
        """What a program says in there; AssertionError if it fails."""
        return run(*self.docker, "exec", self.id, *argv)

    def refuses(self, *argv: str) -> str:
        """What a program that must fail says to its standard error."""
        done = subprocess.run([*self.docker, "exec", self.id, *argv], capture_output=True, text=True, check=False)
        assert done.returncode != 0, done.stdout
        return done.stderr

    def answer(self, path: str = "/", data: str = "") -> Any:
        """What the service says in JSON, once it listens."""
        asked = f"u.urlopen('http://127.0.0.1:8080{path}', {data.encode() or None!r})"
        ask = f"import urllib.request as u; print({asked}.read().decode())"
        words = [*self.docker, "exec", self.id, "python", "-c", ask]

        def look() -> str:
            assert self.state()["Running"], run(*self.docker, "logs", self.id)
            return subprocess.run(words, capture_output=True, text=True, check=False).stdout

        return json.loads(until("the service to answer", look))

    def listed(self, *options: str) -> dict[str, str]:
        """Name -> version, as `pip list` in there has them."""
        rows = json.loads(self.say("pip", "list", "--format=json", "--disable-pip-version-check", *options))
        return {canonicalize_name(row["name"]): row["version"] for row in rows}

    def stop(self) -> tuple[float, int]:
        """SIGTERM as engines send it; seconds until it ended, and its exit status."""
        start = time.monotonic()
        run(*self.docker, "stop", "-t", "20", self.id)
        return time.monotonic() - start, int(self.state()["ExitCode"])

    def state(self) -> dict[str, Any]:
        return dict(json.loads(run(*self.docker, "inspect", "-f", "{{json .State}}", self.id)))
