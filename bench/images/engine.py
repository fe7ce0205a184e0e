"""A Docker Engine for the peers: the one that runs, else one of our own; or a newer one from a folder of programs."""

from __future__ import annotations

import os
import shutil
import socket
import struct
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

_SOCKET = Path("/var/run/docker.sock")
_GROUP = "clouddeploybench.slice"
"""The cgroup of the containers that build: a name that both drivers of cgroups take."""


@dataclass(frozen=True)
class Engine:
    """pid: of the daemon. client: a docker program that speaks BuildKit to it."""

    host: str
    pid: int
    client: str
    environ: Mapping[str, str] = field(default_factory=dict)
    group: str = _GROUP

    def run(self, *words: str, buildkit: bool = True) -> str:
        environ = {**os.environ, **self.environ, "DOCKER_HOST": self.host, "DOCKER_BUILDKIT": str(int(buildkit))}
        return command(self.client, *words, environ=environ)

    @property
    def buildx(self) -> bool:
        try:
            return bool(self.run("buildx", "version"))
        except RuntimeError:
            return False

    @property
    def version(self) -> str:
        engine = f"Docker Engine {self.run('version', '--format', '{{.Server.Version}}').strip()}"
        if not self.buildx:
            return engine
        told = [line.split()[-1] for line in self.run("buildx", "inspect").splitlines() if "BuildKit version" in line]
        told = [word for word in told if not word.startswith("v0.0.0")]  # Debian's does not know
        return " ".join([engine, *(f"with BuildKit {word}" for word in told)])

    def caches(self) -> set[str]:
        """What BuildKit keeps of its own."""
        rows = self.run("system", "df", "-v", "--format", "{{range .BuildCache}}{{.ID}} {{end}}")
        return set(rows.split())

    def forget(self, images: set[str], caches: set[str]) -> None:
        """What the bench has made in it. One by one: what others made stays."""
        for image in images:
            self._try("rmi", "--force", image)
        for _ in range(20):  # a cache goes only after those that stand on it
            left = self.caches() - caches
            if not left:
                return
            for row in left:
                self._try("builder", "prune", "--all", "--force", "--filter", f"id={row}")
            if self.caches() - caches == left:
                return

    def _try(self, *words: str) -> None:
        try:
            self.run(*words)
        except RuntimeError:
            return  # gone already, or another's use keeps it


def command(*words: str, environ: Mapping[str, str] | None = None) -> str:
    """Its output. Raises RuntimeError with its last words."""
    done = subprocess.run(words, env=environ, capture_output=True, text=True, check=False)
    if done.returncode:
        last = "\n".join((done.stdout + done.stderr).splitlines()[-12:])
        raise RuntimeError(f"{Path(words[0]).name} {words[1]}: {last}")
    return done.stdout


@contextmanager
def engine_at_hand(folder: Path) -> Iterator[Engine]:
    """Raises RuntimeError if there is none and none can be started."""
    client = _client()
    if _SOCKET.exists() and (pid := _listener(_SOCKET)):
        yield Engine(f"unix://{_SOCKET}", pid, client)
    else:
        with _started(folder, shutil.which("dockerd"), client, {}) as engine:
            yield engine


@contextmanager
def engine_of(programs: Path, folder: Path) -> Iterator[Engine]:
    """One of our own, by the dockerd, containerd, docker and docker-buildx of a folder; runc may be there, too."""
    plugins = folder / "client" / "cli-plugins"
    plugins.mkdir(parents=True, exist_ok=True)
    found = {name: _program(programs, name) for name in ("dockerd", "docker", "docker-buildx", "containerd")}
    shutil.copy(found["docker-buildx"], plugins)
    path = ":".join([*dict.fromkeys(str(Path(program).parent) for program in found.values()), os.environ["PATH"]])
    environ = {"PATH": path, "DOCKER_CONFIG": str(folder / "client")}
    with _started(folder, found["dockerd"], found["docker"], environ) as engine:
        yield engine


def _program(programs: Path, name: str) -> str:
    """A flat folder, or the tree of unpacked packages, where an init script has the same name."""
    for path in sorted(programs.rglob(name)):
        if path.parent.name != "init.d" and path.is_file() and os.access(path, os.X_OK):
            return str(path)
    raise RuntimeError(f"no {name} in {programs}")


@contextmanager
def _started(folder: Path, program: str | None, client: str, environ: Mapping[str, str]) -> Iterator[Engine]:
    """Without a network of its own: steps have the host's."""
    if not program:
        raise RuntimeError("no Docker Engine answers, and dockerd is not installed")
    folder.mkdir(parents=True, exist_ok=True)
    path, log = folder / "docker.sock", folder / "log"
    (folder / "daemon.json").write_text('{"features": {"containerd-snapshotter": true}}' if environ else "{}")
    words = [program, "-H", f"unix://{path}", "--config-file", f"{folder}/daemon.json"]
    words += ["--data-root", f"{folder}/data", "--exec-root", f"{folder}/exec", "--pidfile", f"{folder}/pid"]
    words += ["--bridge=none", "--iptables=false", "--ip6tables=false"]
    with log.open("w") as out:
        process = subprocess.Popen(words, env={**os.environ, **environ}, stdout=out, stderr=out)
        try:
            for _ in range(300):
                if process.poll() is not None:
                    raise RuntimeError(f"dockerd does not start: {log.read_text()[-500:]}")
                if path.exists() and _listener(path):
                    break
                time.sleep(0.1)
            yield Engine(f"unix://{path}", process.pid, client, environ)
        finally:
            process.terminate()
            process.wait(timeout=60)
            for left in folder.glob("exec/netns/*"):  # dockerd leaves its own network namespace mounted
                subprocess.run(["umount", left], check=False, capture_output=True)


def _client() -> str:
    """The first docker on PATH that can do BuildKit: with the plugin buildx, or older than 23."""
    seen = []
    for folder in os.environ["PATH"].split(":"):
        program = shutil.which("docker", path=folder)
        if not program:
            continue
        told = subprocess.run([program, "--version"], capture_output=True, text=True, check=False).stdout
        seen.append(told.strip())
        old = int([*told.split(), "", "", "99"][2].split(".")[0]) < 23
        if old or subprocess.run([program, "buildx", "version"], capture_output=True, check=False).returncode == 0:
            return program
    raise RuntimeError(f"no docker program with BuildKit: {'; '.join(seen) or 'none is installed'}")


def _listener(path: Path) -> int:
    """Process id of who listens on a socket: unix(7), SO_PEERCRED. 0 if nobody does."""
    with socket.socket(socket.AF_UNIX) as sock:
        try:
            sock.connect(str(path))
        except OSError:
            return 0
        return int(struct.unpack("3i", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[0])


def remove_group(name: str = _GROUP) -> None:
    """Empty by now; docker leaves it behind."""
    root = Path("/sys/fs/cgroup")
    for top in (root, *(each for each in root.iterdir() if each.is_dir())):
        for folder in sorted((top / name).rglob("*/"), reverse=True):
            _rmdir(folder)
        _rmdir(top / name)


def _rmdir(folder: Path) -> None:
    try:
        folder.rmdir()
    except OSError:
        return
