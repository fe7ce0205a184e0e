"""A Docker Engine that a test may kill: folders, socket and network are its own, so that no other Engine notices."""

from __future__ import annotations

import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from tests import needs
from tests.integration.stack import until

_ASK = """
import sys, urllib.request
try:
    print(urllib.request.urlopen(sys.argv[1], timeout=5).read().decode(), end="")
except OSError:
    sys.exit(1)
"""


class OwnEngine:
    """In a network namespace: two Engines in one would flush each other's rules at every start."""

    def __init__(self, folder: Path) -> None:
        needs.root_on_linux("a Docker Engine of one's own")
        self.folder = folder
        self.host = f"unix://{folder}/docker.sock"
        self._namespace = f"cd-{uuid.uuid4().hex[:8]}"
        self._dockerd: psutil.Popen | None = None
        ip = needs.program("ip")
        subprocess.run([ip, "netns", "add", self._namespace], check=True)
        subprocess.run([ip, "-n", self._namespace, "link", "set", "lo", "up"], check=True)

    def start(self) -> None:
        """Returns once it answers. One that ends is started again, as systemd does for an Engine."""
        self._spawn()

        def ready() -> bool:
            if self._dockerd is None or self._dockerd.poll() is not None:
                self._spawn()
            return self._answers()

        until(f"the Engine to answer; its log is {self.folder}/log", ready, 120)

    def _spawn(self) -> None:
        places = [f"--{name}={self.folder / name}" for name in ("data-root", "exec-root", "pidfile")]
        # Not `ip netns exec`: what an Engine has mounted must still be there for the next one.
        command = [*self._inside, needs.program("dockerd"), "-H", self.host, *places]
        with (self.folder / "log").open("ab") as out:
            self._dockerd = psutil.Popen(command, stdout=out, stderr=out, start_new_session=True)

    def kill(self) -> None:
        """kill -9, and see it dead. Its containers run on, as they do; nobody reaches them from outside any more."""
        assert self._dockerd is not None
        containerd = self._dockerd.children()
        self._dockerd.kill()
        self._dockerd.wait()
        # It dies, too. As long as the machine's first process has not buried it, the next Engine takes it for alive.
        psutil.wait_procs(containerd, timeout=5)

    def docker(self, *words: str, data: bytes | None = None) -> str:
        argv = [needs.program("docker"), "-H", self.host, *words]
        return subprocess.run(argv, input=data, capture_output=True, check=True).stdout.decode().strip()

    def take(self, image: str, other: str) -> None:
        """An image that another Engine has."""
        docker = needs.program("docker")
        with subprocess.Popen([docker, "-H", other, "save", image], stdout=subprocess.PIPE) as saving:
            subprocess.run([docker, "-H", self.host, "load"], stdin=saving.stdout, check=True, capture_output=True)

    def ask(self, url: str) -> str | None:
        """What a service says to a GET from the Engine's machine; None if it does not answer."""
        argv = [*self._inside, sys.executable, "-c", _ASK, url]
        done = subprocess.run(argv, capture_output=True, text=True, check=False, env={"PATH": os.environ["PATH"]})
        return done.stdout if done.returncode == 0 else None

    def close(self) -> None:
        """Nothing of it is left: no process, no mount, no file but the log."""
        if self._dockerd is not None and self._dockerd.poll() is None:
            self._dockerd.terminate()
            with suppress(psutil.TimeoutExpired):
                self._dockerd.wait(30)
        for process in psutil.process_iter():
            with suppress(psutil.NoSuchProcess):
                if any(str(self.folder) in word for word in process.cmdline()):
                    process.kill()
        for mount in sorted((row.mountpoint for row in psutil.disk_partitions(all=True)), reverse=True):
            if mount.startswith(f"{self.folder}/"):
                subprocess.run(["umount", "-l", mount], check=False)
        subprocess.run([needs.program("ip"), "netns", "del", self._namespace], check=True)

    @property
    def _inside(self) -> list[str]:
        return [needs.program("nsenter"), f"--net=/run/netns/{self._namespace}"]

    def _answers(self) -> bool:
        argv = [needs.program("docker"), "-H", self.host, "info"]
        return subprocess.run(argv, capture_output=True, timeout=60, check=False).returncode == 0


@contextmanager
def own_engine(folder: Path) -> Iterator[OwnEngine]:
    engine = OwnEngine(folder)
    try:
        engine.start()
        yield engine
    finally:
        engine.close()
