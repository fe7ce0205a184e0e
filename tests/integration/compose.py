"""The compose stack from a clean checkout, as an operator starts it, and TANGO's project manager beside it."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests

from image_builder.pip_settings import PipSettings, ca_bundle
from tests import needs
from tests.integration.stack import YAML, until
from tests.parallel import free_port

ROOT = Path(__file__).parents[2]
CANARY = "canary-5f0c1d"
"""Given as a password to what is built and started; it may be in no image, log, event or answer."""

PROGRAM = """
import http.server, os, time
time.sleep(float(os.environ.get("PAUSE", "0")))

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"TEXT")

http.server.HTTPServer(("0.0.0.0", int(os.environ["PORT"])), Handler).serve_forever()
"""
CALL = """
import sys, urllib.error, urllib.request
request = urllib.request.Request(sys.argv[1], headers={"Content-Type": "text/plain"})
try:
    print(urllib.request.urlopen(request, timeout=20).read().decode())
except urllib.error.HTTPError as error:
    print(error.code, error.read().decode())
"""
WRITE = """
import json, pathlib, sys
for name, text in json.load(sys.stdin).items():
    path = pathlib.Path("/shared/common") / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
"""


def program(version: int) -> tuple[str, ...]:
    """docker-compose 1.29 by its own name; the second as a plugin of docker (Debian 13 has it as docker-compose)."""
    if version == 1:
        return (needs.program("docker-compose"),)
    asked = subprocess.run([needs.program("docker"), "compose", "version"], capture_output=True, check=False)
    if asked.returncode != 0:
        needs.missing("docker has no plugin compose")
    return ("docker", "compose")


@dataclass
class Compose:
    """One project of docker-compose in a copy of this checkout. Everything it makes has the project's name."""

    checkout: Path
    program: tuple[str, ...]
    project: str
    engine: str
    base: str
    port: int
    web_port: int

    @property
    def images(self) -> dict[str, str]:
        return {name: f"{self.project}/{name}" for name in ("cloud-manager", "image-builder")}

    @property
    def emulator(self) -> str:
        return f"{self.project}/gcp-emulator"

    def __call__(self, *words: str, check: bool = True) -> str:
        done = self._run(*self.program, "-p", self.project, *words, cwd=self.checkout)
        assert done.returncode == 0 or not check, f"{' '.join(words)}: {done.stdout[-3000:]}{done.stderr[-3000:]}"
        return done.stdout

    def docker(self, *words: str, data: str = "") -> str:
        done = self._run(needs.program("docker"), *words, data=data)
        assert done.returncode == 0, f"docker {' '.join(words)[:200]}: {done.stderr[-3000:]}"
        return done.stdout

    def _run(self, *argv: str, cwd: Path | None = None, data: str = "") -> subprocess.CompletedProcess[str]:
        # Nothing of the tests' own settings: what counts is .env.
        environ = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
        environ |= {"DOCKER_HOST": self.engine, "DOCKER_BUILDKIT": "0"}
        return subprocess.run(
            argv, cwd=cwd, env=environ, input=data, capture_output=True, text=True, timeout=550, check=False
        )

    def saved_without(self, secret: str, image: str) -> bool:
        """Whether no byte of the image, its configuration and its layers holds the secret."""
        command = [needs.program("docker"), "-H", self.engine, "save", image]
        tail = b""
        with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            found = False
            while chunk := process.stdout.read(1 << 20):
                found = found or secret.encode() in tail + chunk
                tail = chunk[-len(secret) :]
        assert process.returncode == 0
        return not found

    # -- what there is -----------------------------------------------------------------------------------------

    def inspect(self, what: str) -> dict[str, Any]:
        return dict(json.loads(self.docker("inspect", what))[0])

    def container(self, service: str) -> dict[str, Any]:
        labels = {"project": self.project, "service": service}
        filters = [word for name in labels for word in ("--filter", f"label=com.docker.compose.{name}={labels[name]}")]
        return self.inspect(self.docker("ps", "-aq", "--no-trunc", *filters).strip())

    def left(self, kind: str) -> list[str]:
        """Names of the project's containers, networks or volumes."""
        column = "{{.Names}}" if kind == "container" else "{{.Name}}"
        every = ("-a",) if kind == "container" else ()
        label = f"label=com.docker.compose.project={self.project}"
        return sorted(self.docker(kind, "ls", *every, "--filter", label, "--format", column).split())

    def answers(self) -> bool:
        """Whether the manager does, at its published port. Docker's own look comes every ten seconds only."""
        return answers(f"http://127.0.0.1:{self.port}/healthz")

    def healthy(self, service: str) -> bool:
        return bool(self.container(service)["State"].get("Health", {}).get("Status") == "healthy")

    # -- the project manager and the code generator ------------------------------------------------------------

    def call(self, path: str, project: str = "42") -> str:
        """The project manager's call: a third container, the name `cloud-deploy`, text/plain."""
        url = f"http://cloud-deploy:8890{path}?user_id=7&project_id={project}"
        return self.docker("exec", self.caller, "python3", "-c", CALL, url).strip()

    @property
    def caller(self) -> str:
        return f"{self.project}-project-manager"

    def start_caller(self) -> None:
        options = ("--init", "--name", self.caller, "--network", f"{self.project}_default")
        self.docker("run", "-d", *options, self.base, "sleep", "3600")

    def wait(self, word: str, project: str = "42") -> None:
        def look() -> bool:
            last.append(self.call("/status_request", project))
            assert last[-1] != "failed" or word == "failed", self.story(project)
            return last[-1] == word

        last: list[str] = []
        until(f"{project} to be {word}, last {last}", look)

    def write(self, project: str = "42", *, text: str = "hello", yaml: str = YAML) -> None:
        """A project on the shared volume, owned by root as TANGO's containers make it."""
        files = {
            f"7/{project}/deployment.yaml": yaml,
            f"7/{project}/nn_model/server.py": PROGRAM.replace("TEXT", text),
        }
        options = ("--rm", "--network", "none", "-v", f"{self.project}_shared:/shared")
        self.docker("run", "-i", *options, self.base, "python3", "-c", WRITE, data=json.dumps(files))

    # -- the machine's Engine ----------------------------------------------------------------------------------

    def open_socket(self) -> None:
        """As the README says: docker-compose.socket.yml, and the group of the socket."""
        socket = Path(self.engine.removeprefix("unix://"))
        lines = {
            "COMPOSE_FILE": "docker-compose.yml:docker-compose.socket.yml",
            "DOCKER_SOCKET": str(socket),
            "DOCKER_GID": str(socket.stat().st_gid),
            "INSECURE_REGISTRIES": "registry:5000",
        }
        with (self.checkout / ".env").open("a") as file:
            file.writelines(f"{name}={value}\n" for name, value in lines.items())
        self("up", "-d", "--no-build")

    def join_google(self) -> int:
        """As the README says: docker-compose.gcp.yml and its profile. Returns the port of the twin's proxy."""
        port = free_port()
        lines = {
            "COMPOSE_FILE": "docker-compose.yml:docker-compose.gcp.yml",
            "COMPOSE_PROFILES": "gcp",
            "EMULATOR_ADDRESS": f"127.0.0.1:{port}",
        }
        with (self.checkout / ".env").open("a") as file:
            file.writelines(f"{name}={value}\n" for name, value in lines.items())
        self("build", "google")
        self("up", "-d", "--no-build")
        return port

    def start_registry(self) -> str:
        """A base on a registry of the stack's own network; its reference there. It goes with `remove_rest`."""
        program, config = needs.program("docker-registry"), "/tmp/config.yml"
        text = "{version: 0.1, storage: {filesystem: {rootdirectory: /tmp/data}}, http: {addr: ':5000'}}"
        reach = ("--network", f"{self.project}_default", "--network-alias", "registry", "-p", "127.0.0.1::5000")
        name = f"{self.project}-registry"
        serve = f'echo "{text}" >{config} && exec /registry serve {config}'
        self.docker("run", "-d", "--name", name, *reach, "-v", f"{program}:/registry:ro", self.base, "sh", "-c", serve)
        port = self.docker("port", name, "5000/tcp").strip().rpartition(":")[2]
        until("the registry to answer", lambda: answers(f"http://127.0.0.1:{port}/v2/"))
        plain = ("--insecure-policy", "--src-tls-verify=false", "--dest-tls-verify=false")
        argv = (
            needs.program("skopeo"),
            "copy",
            *plain,
            f"docker://{self.base}",
            f"docker://127.0.0.1:{port}/python:3.11",
        )
        subprocess.run(argv, check=True, capture_output=True)
        return "registry:5000/python:3.11"

    def services(self) -> list[str]:
        """Containers that the manager's docker target made."""
        return self.docker("ps", "-aq", *self._owned).split()

    @property
    def _owned(self) -> tuple[str, str]:
        return ("--filter", f"label=io.tango.cloud-deploy.owner={self.project}")

    def remove_rest(self) -> None:
        rest = [*self.services(), f"{self.project}-registry", f"{self.project}-project-manager"]
        self._run(needs.program("docker"), "rm", "-f", "-v", *rest)
        for network in self.docker("network", "ls", "-q", *self._owned).split():
            self._run(needs.program("docker"), "network", "rm", network)

    def inside(self, service: str, *argv: str) -> str:
        return self.docker("exec", self.container(service)["Id"], *argv)

    def story(self, project: str = "42") -> str:
        return self.inside("cloud-manager", "cloud-deploy", "events", "7", project)

    def answer(self, project: str = "42") -> str:
        """What a service of `deploy.type: local` says, asked where it runs."""
        return self.inside("cloud-manager", "python", "-c", CALL, self.url(project)).strip()

    def url(self, project: str) -> str:
        shown = json.loads(self.inside("cloud-manager", "cloud-deploy", "status", "7", project, "--json"))
        return str(shown["url"])


def answers(url: str) -> bool:
    with contextlib.suppress(requests.RequestException):
        return requests.get(url, timeout=5).ok
    return False


def copied(target: Path) -> Path:
    """What git has of this checkout, and what is new in it, without what is ignored."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    for name in filter(None, listed.stdout.split("\0")):
        if (ROOT / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, target / name)
    return target


async def network_settings(environ: Mapping[str, str]) -> dict[str, str]:
    """What .env must say for the images to be built here: this machine's proxies and package index."""
    settings = await PipSettings(environ).environment()
    proxies = {name: environ[name] for name in ("http_proxy", "https_proxy", "no_proxy") if environ.get(name)}
    index = settings.get("UV_DEFAULT_INDEX") or settings.get("UV_INDEX_URL")
    return proxies | ({"PIP_INDEX_URL": index} if index else {}) | {"DOCKER_BUILD_NETWORK": "host"}


@contextmanager
def stack(folder: Path, engine: str, base: str, settings: Mapping[str, str], *, version: int = 1) -> Iterator[Compose]:
    """A checkout with its .env; when this is left, nothing of the project is on the Engine. version: of compose."""
    compose = Compose(
        copied(folder), program(version), f"t{secrets.token_hex(4)}", engine, base, free_port(), free_port()
    )
    lines = {
        **settings,
        "PYTHON_IMAGE": base,
        "MANAGER_IMAGE": compose.images["cloud-manager"],
        "BUILDER_IMAGE": compose.images["image-builder"],
        "EMULATOR_IMAGE": compose.emulator,
        "MANAGER_ADDRESS": f"127.0.0.1:{compose.port}",
        "WEB_ADDRESS": f"127.0.0.1:{compose.web_port}",
        "DOCKER_OWNER": compose.project,
    }
    (folder / ".env").write_text("".join(f"{name}={value}\n" for name, value in lines.items()))
    if bundle := ca_bundle(os.environ):
        shutil.copyfile(bundle, folder / "docker" / "certificates" / "of-this-machine.crt")
    try:
        yield compose
    finally:
        sys.stdout.write(compose("logs", "--tail=50", check=False)[-8000:])
        compose.remove_rest()
        compose("down", "-v", "--timeout", "1", check=False)
        compose._run("docker", "image", "rm", "-f", *compose.images.values(), compose.emulator)
        # What the stages left; that of the last hour makes the next run a minute shorter.
        old = ("--filter", "label=io.tango.cloud-deploy.stage=build", "--filter", "until=1h")
        compose._run("docker", "image", "prune", "-f", *old)
