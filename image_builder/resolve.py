"""Python requirements become a lock: exact files with hashes, by uv, for the target's python and platform.

The newest version that fits wins, as with pip, whether it comes as a wheel or as source only. Where a source cannot be
built (another platform or python than this machine's), the newest version with a wheel serves, and the log says so:
an old version is never taken in silence.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

from image_builder.contract import BuildRequest
from image_builder.disk import write_whole
from image_builder.errors import BuildError, ResolveFailed
from image_builder.index_credentials import local_folders
from image_builder.local_index import Hashed, folders_alone, write_index
from image_builder.lock import UNKNOWN_BASE, Lock, PinnedWheel, cuda_parts, read_lock, target_environment, uv_platform
from image_builder.oci.software import Libc
from image_builder.pip_settings import INDEX_NAMES
from image_builder.plan import check_requirement
from image_builder.project_lock import ProjectLock, check_wishes
from image_builder.resolver_words import is_about_building
from image_builder.uv_program import compile_lines
from image_builder.work import in_thread

_FORMAT = 2
_HEADER = 'lock-version = "1.0"\ncreated-by = "cloud-deploy"\npackages = []\n'
_WHEELS_ONLY = ("--only-binary", ":all:")
_CPU_TORCH = ("--torch-backend", "cpu")


@dataclass(frozen=True, slots=True)
class Wishes:
    """What is to be resolved. lock: what the project brings. buildable: whether sources can be built into wheels.
    libc: of the base image. hashed: only saves time. interpreter: what uv builds sources with, to see what they need.
    """

    request: BuildRequest
    lock: ProjectLock | None = None
    buildable: bool = False
    libc: Libc = UNKNOWN_BASE
    hashed: Hashed | None = None
    interpreter: str = sys.executable

    @property
    def lines(self) -> list[str]:
        """As parsed and written again: nothing but a requirement can reach uv, whatever the text held."""
        return sorted({str(check_requirement(requirement)) for requirement in self.request.requirements})

    @property
    def asked(self) -> list[str]:
        return [check_requirement(requirement).name for requirement in self.request.requirements]


async def resolve(wishes: Wishes, locks: Path, environ: Mapping[str, str], log: Callable[[str], None]) -> Lock:
    """The lock of a request: the one kept in `locks` if the same was asked before, else a new one.

    Args:
        environ: as `PipSettings.environment` gives it.

    Raises:
        ResolveFailed: names the requirement and its line, or the line of the project's lock.
    """
    request = wishes.request
    if not request.requirements and wishes.lock is None:
        return read_lock(_HEADER, request.platform, request.python)
    path = _path(wishes, locks, environ)
    kept = _kept(path)
    if kept is not None:
        log("requirements are unchanged: the lock made before is used")
        return _read(wishes, kept)
    lock = (
        await _from_project(wishes, wishes.lock, environ, log) if wishes.lock else await _newest(wishes, environ, log)
    )
    await in_thread(lambda _: write_whole(path, lock.text.encode()))
    return lock


async def newest_wheels(wishes: Wishes, environ: Mapping[str, str]) -> Lock:
    """The newest of what comes as wheels: no code of a package is run to find out. Nothing is kept, for a build has a
    lock of its own.

    Raises:
        ResolveFailed: code `source_only` or `no_matching_wheel` where something has no wheel that fits.
    """
    return await _for_accelerator(wishes, environ, lambda _line: None, *_WHEELS_ONLY)


def _kept(path: Path) -> str | None:
    """The text of a lock made before, whose use is noted: the cache may clear away what is not used for long."""
    try:
        os.utime(path)
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None


def forget(wishes: Wishes, locks: Path, environ: Mapping[str, str]) -> None:
    """Drop the lock kept for a request, so that it is resolved anew."""
    _path(wishes, locks, environ).unlink(missing_ok=True)


def lock_key(wishes: Wishes, environ: Mapping[str, str]) -> str:
    """64 hex digits over all that a lock depends on, besides what the indexes hold on that day. Pure."""
    parts = {
        "format": _FORMAT,
        "requirements": wishes.lines,
        "lock": [wishes.lock.is_pylock, wishes.lock.text] if wishes.lock else None,
        "platform": wishes.request.platform,
        "python": wishes.request.python,
        "accelerator": wishes.request.accelerator,
        "buildable": wishes.buildable,
        "libc": str(wishes.libc),
        "indexes": {name: environ[name] for name in INDEX_NAMES if environ.get(name)},
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _path(wishes: Wishes, locks: Path, environ: Mapping[str, str]) -> Path:
    return locks / f"{lock_key(wishes, environ)}.toml"


def _read(wishes: Wishes, text: str) -> Lock:
    allowed = wishes.lock.hashes if wishes.lock else None
    return read_lock(text, wishes.request.platform, wishes.request.python, allowed=allowed, libc=wishes.libc)


async def _compiled(
    wishes: Wishes, lines: list[str], environ: Mapping[str, str], log: Callable[[str], None], *options: str
) -> str:
    """What uv makes of requirement lines; a refusal that may be due to the base's C library names it."""
    platform = ("--python-platform", uv_platform(wishes.request.platform, wishes.libc))
    # Named, for to look for one takes uv longer than all the rest.
    python = ("--python", wishes.interpreter)
    environ, places = await _places(wishes, environ, options)
    try:
        return await compile_lines(lines, wishes.request, environ, log, (*platform, *python, *options, *places))
    except ResolveFailed as error:
        if wishes.libc == UNKNOWN_BASE or error.problem.code not in ("no_matching_wheel", "source_only"):
            raise
        raise ResolveFailed(
            f"{error.problem.cause.rstrip('.')} (the base image has {wishes.libc})",
            f"{error.problem.fix} A wheel for a newer C library, or another kind, needs another base image.",
            code=error.problem.code,
        ) from error


async def _places(
    wishes: Wishes, environ: Mapping[str, str], options: Sequence[str]
) -> tuple[Mapping[str, str], tuple[str, ...]]:
    """The environment, and options, that tell uv where packages come from: as the host says, but sooner done."""
    folders, hashed = folders_alone(environ, options), wishes.hashed
    if hashed is None or not folders:
        return environ, ()
    try:
        index = await in_thread(lambda flag: write_index(folders, hashed, flag))
    except OSError:
        return environ, ()  # uv says what is wrong with a folder, in its own words
    if index is None:
        return environ, ()
    others = {name: value for name, value in environ.items() if name not in ("UV_NO_INDEX", "UV_FIND_LINKS")}
    return others, ("--default-index", index.as_uri())


async def _from_project(
    wishes: Wishes, given: ProjectLock, environ: Mapping[str, str], log: Callable[[str], None]
) -> Lock:
    """Exactly what the project's lock says, by its hashes."""
    request = wishes.request
    check_wishes(given, request.requirements, target_environment(request.platform, request.python))
    if settings := given.ignored_settings():
        log(f"{given.name}: {', '.join(settings)} left out: the builder's host says where packages come from")
    if given.is_pylock:
        lock = _read(wishes, given.text)
        _check_places(lock, given, environ)
    else:
        lock = _read(wishes, await _pinned(wishes, given, environ, log))
        await _tell_what_is_missing(wishes, given, environ, log)
    if lock.sources and not wishes.buildable:
        raise _source_only(lock, request)
    if request.accelerator == "cpu" and (found := cuda_parts(lock, wishes.asked)):
        log(f"{given.name} brings CUDA although accelerator is cpu: {', '.join(found[:5])}")
    return lock


def _check_places(lock: Lock, given: ProjectLock, environ: Mapping[str, str]) -> None:
    """A pylock.toml says where each file lies. On this machine that may be a folder of the host's indexes only, else a
    project could ask what files there are, and take another's.
    """
    homes = local_folders(environ)
    for file in (*lock.wheels, *lock.sources):
        place = urlsplit(file.url)
        here = Path(url2pathname(place.path)).resolve()
        if place.scheme not in ("http", "https") and not any(here.is_relative_to(home) for home in homes):
            raise ResolveFailed(
                f"{given.name}: {file.filename} is to be taken from a place that no index of the builder has",
                "Name the https address of an index, or give the folder to the builder's host as find-links.",
                code="bad_lock",
            )


async def _pinned(wishes: Wishes, given: ProjectLock, environ: Mapping[str, str], log: Callable[[str], None]) -> str:
    lines = [pin.line for pin in given.pins]
    try:
        return await _compiled(wishes, lines, environ, log, "--no-deps")
    except ResolveFailed:
        # CPU wheels of torch have an index of their own, unless the host has them.
        if not any(pin.version.local == "cpu" for pin in given.pins):
            raise
    return await _compiled(wishes, lines, environ, log, "--no-deps", *_CPU_TORCH)


async def _tell_what_is_missing(
    wishes: Wishes, given: ProjectLock, environ: Mapping[str, str], log: Callable[[str], None]
) -> None:
    """A lock that lacks what its packages need is used as it is, as pip would, but not in silence."""
    lines = [pin.line for pin in given.pins]
    try:
        whole = await _compiled(wishes, lines, environ, lambda _: None, *_WHEELS_ONLY)
        needed = read_lock(whole, wishes.request.platform, wishes.request.python, libc=wishes.libc)
    except BuildError as error:
        log(f"warning: whether {given.name} is complete could not be judged: {error.problem.cause}")
        return
    missing = sorted({wheel.name for wheel in needed.wheels} - {pin.name for pin in given.pins})
    if missing:
        log(f"warning: {given.name} lacks what its packages need: {', '.join(missing)}")


async def _newest(wishes: Wishes, environ: Mapping[str, str], log: Callable[[str], None]) -> Lock:
    """The newest of all that fits; where that needs sources that cannot be built, the newest of the wheels."""
    try:
        lock = await _for_accelerator(wishes, environ, log)
        if wishes.buildable or not lock.sources:
            return lock
        reason = _source_only(lock, wishes.request)
    except ResolveFailed as error:
        if not is_about_building(error.problem.cause):
            raise
        lock, reason = None, error
    try:
        wheels = await _for_accelerator(wishes, environ, log, *_WHEELS_ONLY)
    except ResolveFailed as error:
        raise reason from error
    log(f"warning: {reason.problem.cause}; taken instead: {_taken(wheels, lock)}")
    return wheels


def _taken(wheels: Lock, newest: Lock | None) -> str:
    """The versions that differ from the newest, of which some came as source only. Pure."""
    if newest is None:
        return "the newest versions that come as wheels"
    known = {(file.name, file.version) for file in (*newest.wheels, *newest.sources)}
    return ", ".join(f"{file.name} {file.version}" for file in wheels.wheels if (file.name, file.version) not in known)


async def _for_accelerator(
    wishes: Wishes, environ: Mapping[str, str], log: Callable[[str], None], *options: str
) -> Lock:
    """With `accelerator: cpu` a lock without CUDA, which torch's plain wheels would drag in, or an error."""
    request, lines = wishes.request, wishes.lines
    lock = _read(wishes, await _compiled(wishes, lines, environ, log, *options))
    if request.accelerator != "cpu" or not (found := cuda_parts(lock, wishes.asked)):
        return lock
    log(f"left out for accelerator: cpu: {', '.join(found)}")
    try:
        lock = _read(wishes, await _compiled(wishes, lines, environ, log, *options, *_CPU_TORCH))
    except ResolveFailed as error:
        raise _no_cpu_torch(found, error.problem.cause) from error
    if found := cuda_parts(lock, wishes.asked):
        raise _no_cpu_torch(found, "the index for CPU wheels has none that fits")
    return lock


def _source_only(lock: Lock, request: BuildRequest) -> ResolveFailed:
    names = ", ".join(f"{source.name} {source.version}" for source in lock.sources)
    return ResolveFailed(
        f"{names}: source only, which this machine cannot build for python {request.python} on {request.platform}",
        "Ask for a version that comes as a wheel, or run a builder with that python on such a machine.",
        code="source_only",
    )


def check_built(wheel: PinnedWheel, libc: Libc, here: Libc | None) -> None:
    """Judge a wheel that was built on this machine. here: this machine's C library, where it is known.

    Raises:
        ResolveFailed: code `source_only`: it holds machine code for another C library than the base image's.
    """
    if wheel.filename.endswith("-any.whl") or here is None or (here.kind == libc.kind and here <= libc):
        return
    raise ResolveFailed(
        f"{wheel.name} {wheel.version} comes as source only; built here it needs {here}, and the base image has {libc}",
        "Ask for a version that comes as a wheel for this base image, or name a base image with a newer C library.",
        code="source_only",
    )


def _no_cpu_torch(found: list[str], reason: str) -> ResolveFailed:
    return ResolveFailed(
        f"accelerator is cpu, yet only CUDA packages were found ({', '.join(found[:5])}): {reason}",
        "Set find-links (PIP_FIND_LINKS or UV_FIND_LINKS) to a folder or page with a CPU wheel, or accelerator: gpu.",
        code="cpu_torch_unavailable",
    )
