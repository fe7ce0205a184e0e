"""The pythons of this machine: what compiles modules ahead, and builds packages that come as source."""

from __future__ import annotations

import json
import platform as machine
import shutil
import subprocess
import sys
import threading
from collections.abc import Mapping
from dataclasses import dataclass

from image_builder.contract import Platform
from image_builder.oci.software import Libc

_ASK = """
import importlib.util, json, platform, sys
v = sys.version_info
print(json.dumps([platform.python_implementation(), "%d.%d" % v[:2], v[3], importlib.util.MAGIC_NUMBER.hex()]))
"""
_SECONDS = 30
_ARCHITECTURES = {"x86_64": "amd64", "amd64": "amd64", "aarch64": "arm64", "arm64": "arm64"}


@dataclass(frozen=True, slots=True)
class Interpreter:
    """A CPython X.Y. magic: hex of the number that heads its bytecode files, the same in all releases of X.Y."""

    python: str
    path: str
    magic: str


class Interpreters:
    """Looked for once: the python that runs the builder, else `python3.X` on PATH. Thread-safe."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = dict(environ)
        self._lock = threading.Lock()
        self._known: dict[str, Interpreter | None] = {}

    def find(self, python: str) -> Interpreter | None:
        """A released CPython X.Y of this machine, or None. Blocking."""
        with self._lock:
            if python not in self._known:
                self._known[python] = self._look(python)
            return self._known[python]

    def _look(self, python: str) -> Interpreter | None:
        own = sys.executable if python == f"{sys.version_info[0]}.{sys.version_info[1]}" else None
        found = own or shutil.which(f"python{python}", path=self._environ.get("PATH"))
        return _asked(found, python) if found else None


def here() -> Platform | None:
    """This machine in the words of the contract; None if the contract has none for it."""
    architecture = _ARCHITECTURES.get(machine.machine().lower())
    platforms: dict[tuple[str, str | None], Platform] = {
        ("linux", "amd64"): "linux/amd64",
        ("linux", "arm64"): "linux/arm64",
        ("darwin", "amd64"): "darwin/amd64",
        ("darwin", "arm64"): "darwin/arm64",
    }
    return platforms.get((sys.platform, architecture))


def libc_here() -> Libc | None:
    """This machine's C library, which what is built here needs; None where python does not tell."""
    kind, version = machine.libc_ver()
    numbers = version.split(".")
    if kind not in ("glibc", "musl") or len(numbers) < 2:
        return None
    return Libc("musl" if kind == "musl" else "glibc", int(numbers[0]), int(numbers[1]))


def _asked(program: str, python: str) -> Interpreter | None:
    """What it says of itself: a program of that name may be another version, or no CPython."""
    try:
        said = subprocess.run([program, "-I", "-c", _ASK], capture_output=True, check=True, timeout=_SECONDS).stdout
        implementation, version, level, magic = json.loads(said)
    except (OSError, subprocess.SubprocessError, ValueError):
        return None  # it does not run: as good as not there
    if (implementation, version, level) != ("CPython", python, "final"):
        return None
    return Interpreter(python, program, str(magic))
