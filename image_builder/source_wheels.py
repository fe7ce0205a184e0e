"""Packages that come as source only are built into wheels, by uv, in an environment that is thrown away.

What a package's build does is the package's: its code runs here, with the builder's rights, as with `pip install`.
Its archive is verified by the lock's hash first. The same archive is built once for each python and platform.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename
from packaging.version import Version

from image_builder.contract import Platform
from image_builder.disk import full_disk_named, write_whole
from image_builder.errors import BuildError, ResolveFailed
from image_builder.fetch import WheelStore
from image_builder.index_credentials import without_credentials
from image_builder.interpreters import Interpreter
from image_builder.lock import PinnedSource, PinnedWheel
from image_builder.scratch import Scratch
from image_builder.uv_program import index_options, uv_environ, uv_program
from image_builder.work import Finished, in_thread, run

_FORMAT = 1
_SECONDS = 3600
_EPOCH = "315532800"
"""1980-01-01, the earliest time that a zip can tell: https://reproducible-builds.org/specs/source-date-epoch/"""
_LOG_LINES = 40


@dataclass(frozen=True, slots=True)
class Target:
    """What a wheel is built for: a platform that is this machine's, by an interpreter of this machine."""

    platform: Platform
    interpreter: Interpreter


class SourceWheels:
    """folder: notes of what was built. wheels: where archives and wheels are kept. scratch: where builds run."""

    def __init__(self, folder: Path, wheels: WheelStore, scratch: Scratch) -> None:
        self._folder = folder
        self._wheels = wheels
        self._scratch = scratch

    async def wheel(
        self, source: PinnedSource, target: Target, environ: Mapping[str, str], log: Callable[[str], None]
    ) -> PinnedWheel:
        """The wheel of a source, built unless it is here. Cancelled, it leaves no process and no file.

        Raises:
            ResolveFailed: code source_build_failed. FetchFailed, DiskFull
        """
        note = self._folder / f"{_key(source, target)}.json"
        known = await in_thread(lambda _: self._known(note))
        if known is not None:
            return known
        log(f"building {source.name} {source.version} from source")
        await self._wheels.fetch([source], environ, lambda _wheel, _done: None)
        async with self._scratch.new() as folder:
            built = await self._build(source, target, environ, folder, log)
            sha256, size = await in_thread(lambda flag: self._wheels.keep(built, flag))
        wheel = PinnedWheel(source.name, source.version, built.name, f"built:{source.filename}", sha256, size)
        await in_thread(lambda _: write_whole(note, json.dumps(asdict(wheel)).encode()))
        return wheel

    def _known(self, note: Path) -> PinnedWheel | None:
        try:
            wheel = PinnedWheel(**json.loads(note.read_bytes()))
        except (FileNotFoundError, ValueError, TypeError):
            return None  # unknown, or written by another version: built again
        return wheel if self._wheels.size(wheel) is not None else None

    async def _build(
        self,
        source: PinnedSource,
        target: Target,
        environ: Mapping[str, str],
        folder: Path,
        log: Callable[[str], None],
    ) -> Path:
        await in_thread(lambda _: _lay_out(self._wheels.path(source), folder, source.filename))
        argv = [
            uv_program(), "build", "--wheel", "--no-sources", "--no-create-gitignore", "--no-progress",
            "--python", target.interpreter.path, "--out-dir", "out", *index_options(environ), source.filename,
        ]  # fmt: skip
        wanted = {**uv_environ(environ), "SOURCE_DATE_EPOCH": _EPOCH, "TMPDIR": str(folder / "tmp")}
        try:
            said = await run(argv, wanted, folder, seconds=_SECONDS)
        except TimeoutError as error:
            raise _failed(source, f"it took longer than {_SECONDS} s") from error
        done = Finished(said.code, *(without_credentials(text, environ) for text in (said.output, said.errors)))
        for line in _last_lines(done):
            log(f"{source.name}: {line}")
        if done.code != 0:
            raise _failed(source, _reason(done))
        return _only_wheel(source, folder / "out")


def _lay_out(archive: Path, folder: Path, filename: str) -> None:
    """The archive under its own name, which says what it is; an empty uv.toml, so that none further up has a say."""
    with full_disk_named(folder, archive.stat().st_size):
        shutil.copyfile(archive, folder / filename)
        (folder / "uv.toml").touch()
        (folder / "tmp").mkdir()


def _only_wheel(source: PinnedSource, folder: Path) -> Path:
    found = sorted(folder.glob("*.whl"))
    try:
        name, version, _, _ = parse_wheel_filename(found[0].name)
    except (IndexError, InvalidWheelFilename) as error:
        raise _failed(source, "no wheel came of it") from error
    if len(found) != 1 or (name, version) != (canonicalize_name(source.name), Version(source.version)):
        raise _failed(source, f"it made {', '.join(path.name for path in found)}")
    return found[0]


def _key(source: PinnedSource, target: Target) -> str:
    parts = [_FORMAT, source.sha256, source.filename, target.platform, target.interpreter.python]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _last_lines(done: Finished) -> list[str]:
    lines = [line.rstrip()[:500] for line in f"{done.output}\n{done.errors}".splitlines() if line.strip()]
    return lines[-_LOG_LINES:]


def _reason(done: Finished) -> str:
    """The last words of the package's own build, which stand before uv's; else uv's."""
    lines = [line.strip() for line in done.errors.splitlines() if line.strip()]
    ends = next((count for count, line in enumerate(lines) if "Failed to build" in line), 0)
    own = [line for line in lines[:ends] if not line.startswith(("Building ", "warning:"))]
    causes = [line for line in lines[ends:] if line.startswith(("error:", "cause:"))]
    return (own[-1] if own else "; ".join(causes) or f"exit code {done.code}")[:400]


def _failed(source: PinnedSource, reason: str) -> BuildError:
    return ResolveFailed(
        f"{source.name} {source.version} comes as source only and cannot be built here: {reason}",
        "Ask for a version that comes as a wheel, or install what its build needs where the image builder runs.",
        code="source_build_failed",
    )
