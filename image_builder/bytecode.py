"""Modules of wheels are compiled ahead, so that a service that starts need not: a layer beside that of the wheels.

One process on each core, of the python that the image has, in an empty folder and with nothing of this machine's
environment: the same wheels give the same bytes.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from image_builder.errors import BuildError
from image_builder.interpreters import Interpreter
from image_builder.layers import compile_modules
from image_builder.layers.gzip_chain import GzipChain
from image_builder.layers.tar import Bytes, Entry
from image_builder.layers.wheel import site_packages
from image_builder.layers.wheel_member import Member
from image_builder.layers.wheels import wheel_entries
from image_builder.lock import PinnedWheel
from image_builder.work import StopFlag, each, in_thread, run

_SECONDS = 900
_LARGEST = 8 << 20
"""Bytes of a module that is still compiled; larger ones are tables made by programs."""
_ENVIRONMENT = {"PYTHONHASHSEED": "0", "LC_ALL": "C.UTF-8"}
_COMPILER = str(Path(compile_modules.__file__))


@dataclass(frozen=True, slots=True)
class _Compiled:
    """A file in the folder of the moment."""

    path: Path
    size: int

    def write_to(self, chain: GzipChain, flag: StopFlag) -> None:
        flag.check()
        chain.add(self.path.read_bytes())


async def compile_wheels(
    wheels: Sequence[PinnedWheel],
    paths: Mapping[str, Path],
    interpreter: Interpreter,
    folder: Path,
    log: Callable[[str], None],
) -> list[Entry]:
    """Entries of the bytecode of wheels; their bytes lie in `folder` (empty, to be kept until they are written).

    May be cancelled: no process is left when CancelledError comes out.

    Args:
        paths: sha256 -> the wheel's file.
        interpreter: one of the image's X.Y.

    Raises:
        ResolveFailed: a wheel is unsound. BuildError: code `compile_failed`.
    """
    modules = await in_thread(lambda flag: _unpack(wheels, paths, interpreter.python, folder / "src", flag))
    cores = os.cpu_count() or 1
    skipped = await each(_compile(modules[part::cores], interpreter, folder) for part in range(cores))
    found = sorted(name for names in skipped for name in names)
    if found:
        log(f"{len(found)} modules stay source only: {', '.join(found[:3])}{' …' if len(found) > 3 else ''}")
    return await in_thread(lambda _: _entries(folder / "out"))


def _unpack(
    wheels: Sequence[PinnedWheel], paths: Mapping[str, Path], python: str, folder: Path, flag: StopFlag
) -> list[str]:
    """Write the modules as they lie in the image; their paths, the largest first: so the cores end together."""
    top = f"{site_packages(python)}/"
    with ExitStack() as opened:
        entries = wheel_entries(wheels, paths, python, opened)
        modules = [entry for entry in entries if entry.path.startswith(top) and _is_module(entry)]
        for entry in modules:
            flag.check()
            target = folder / entry.path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(_content(entry, flag))
    return [entry.path for entry in sorted(modules, key=lambda entry: (-entry.content.size, entry.path))]


def _is_module(entry: Entry) -> bool:
    return entry.path.endswith(".py") and "\n" not in entry.path and entry.content.size <= _LARGEST


def _content(entry: Entry, flag: StopFlag) -> bytes:
    content = entry.content
    if isinstance(content, Bytes):
        return content.data
    if isinstance(content, Member):
        return content.read(flag)
    raise TypeError(f"{entry.path} comes from no wheel")


async def _compile(modules: Sequence[str], interpreter: Interpreter, folder: Path) -> list[str]:
    """Names of those that do not compile."""
    if not modules:
        return []
    argv = [interpreter.path, "-S", "-s", "-B", "-W", "ignore", _COMPILER]
    data = "".join(f"{path}\n" for path in modules)
    done = await run(argv, _ENVIRONMENT, folder, data=data, seconds=_SECONDS)
    if done.code != 0:
        reason = (done.errors.strip().splitlines() or [f"exit code {done.code}"])[-1]
        raise BuildError(
            f"python modules could not be compiled ahead: {reason[:300]}",
            "See to the disk of STATE_DIR, or set COMPILE_BYTECODE=0 for the image builder.",
            code="compile_failed",
            retryable=True,
        )
    return [Path(name).name for name in done.output.splitlines()]


def _entries(folder: Path) -> list[Entry]:
    found = []
    for where, _, names in os.walk(folder):
        for name in names:
            path = Path(where, name)
            entry_path = path.relative_to(folder).as_posix()
            found.append(Entry(entry_path, content=_Compiled(path, path.stat().st_size)))
    return found
