"""A lock that the project brings: a requirements file with hashes, or a pylock.toml. Pure, but for reading the file.

https://pip.pypa.io/en/stable/topics/secure-installs/#hash-checking-mode
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import cast

from packaging.markers import Environment
from packaging.pylock import Pylock, PylockValidationError
from packaging.requirements import InvalidRequirement
from packaging.requirements import Requirement as PythonRequirement
from packaging.utils import canonicalize_name, parse_wheel_filename
from packaging.version import InvalidVersion, Version

from image_builder.contract import Requirement
from image_builder.errors import BadBuildRequest, BuildError, ResolveFailed
from image_builder.real_path import read_small

_LARGEST = 4 << 20
_OPTION = re.compile(r"\s--hash[= ](\S+)")
_SHA256 = re.compile(r"sha256:([0-9a-f]{64})")
_SETTINGS = re.compile(
    r"(-i|-f|--(extra-)?index-url|--find-links|--no-index|--trusted-host|--pre|--(no|only)-binary|"
    r"--prefer-binary|--require-hashes)(?=[=\s]|$)"
)
_CREDENTIALS = re.compile(r"//[^/\s]*@")
_MAKE = "uv pip compile --generate-hashes requirements.in -o"


@dataclass(frozen=True, slots=True)
class Pin:
    """One entry. line: `name==version` with its marker. hashes: sha256 in hex, of every file that may be installed.

    origin: `file:line`.
    """

    name: str
    version: Version
    line: str
    hashes: frozenset[str]
    origin: str


@dataclass(frozen=True)
class ProjectLock:
    """name: of the file, as the project names it."""

    name: str
    text: str

    @property
    def is_pylock(self) -> bool:
        return self.name.endswith(".toml")

    @cached_property
    def pins(self) -> tuple[Pin, ...]:
        """Every entry, whatever its marker.

        Raises:
            ResolveFailed: code bad_lock; names file and line.
        """
        return tuple(_pylock_pins(self) if self.is_pylock else _requirement_pins(self))

    @cached_property
    def hashes(self) -> frozenset[str]:
        """sha256 in hex of every file that may be installed."""
        return frozenset(found for pin in self.pins for found in pin.hashes)

    def ignored_settings(self) -> list[str]:
        """Options in the file that are the host's to set, without their values."""
        rows = [] if self.is_pylock else [text for _, text in _logical_lines(self.text)]
        return sorted({match[1] for row in rows if (match := _SETTINGS.match(row))})


def read_project_lock(source: Path, name: str, shared_root: Path) -> ProjectLock:
    """The lock `name`, a path below `source`, or `../FILE` for one that lies beside that folder.

    Raises:
        BadBuildRequest: it is not there, or not inside the project.
    """
    cleaned = os.path.normpath(name)
    home = source.parent if cleaned.startswith("../") else source
    path = Path(os.path.realpath(source / cleaned)) if "\0" not in name else source
    if not path.is_relative_to(home) or not path.is_relative_to(shared_root.resolve()) or cleaned.count("..") > 1:
        raise _not_usable(name, "is outside the project")
    try:
        data = read_small(path, _LARGEST)
        if len(data) > _LARGEST:
            raise _not_usable(name, f"has more than {_LARGEST} bytes")
        return ProjectLock(cleaned.removeprefix("../"), data.decode())
    except UnicodeDecodeError as error:
        raise _not_usable(name, "is not written in UTF-8") from error
    except OSError as error:
        raise _not_usable(name, f"cannot be read: {error.strerror or error}") from error


def check_wishes(lock: ProjectLock, wishes: Sequence[Requirement], environment: Environment) -> None:
    """What is asked for besides a lock must be in it.

    Raises:
        ResolveFailed: code lock_mismatch; names the requirement's line.
    """
    for wish in wishes:
        parsed = PythonRequirement(wish.text)
        if parsed.marker is not None and not parsed.marker.evaluate(cast("dict[str, str]", environment)):
            continue
        pinned = [pin for pin in lock.pins if pin.name == canonicalize_name(parsed.name)]
        if not any(_satisfies(pin, parsed) for pin in pinned):
            where = f"{wish.origin}: " if wish.origin else ""
            said = f"has {pinned[0].name}=={pinned[0].version}" if pinned else "does not name it"
            raise ResolveFailed(
                f"{where}{wish.text} is asked for, but {lock.name} {said}",
                f"Make the lock anew ({_MAKE} {lock.name}), or take the requirement out of deployment.yaml.",
                code="lock_mismatch",
            )


def _satisfies(pin: Pin, wish: PythonRequirement) -> bool:
    if wish.url:
        filename = wish.url.partition("#")[0].partition("?")[0].rpartition("/")[2]
        return parse_wheel_filename(filename)[1] == pin.version
    return wish.specifier.contains(pin.version, prereleases=True)


def _requirement_pins(lock: ProjectLock) -> Iterator[Pin]:
    for number, text in _logical_lines(lock.text):
        if not _SETTINGS.match(text):
            yield _pin(text, f"{lock.name}:{number}", lock.name)


def _logical_lines(text: str) -> Iterator[tuple[int, str]]:
    """(number of the first line, text) without comments; a backslash at the end continues a line.

    https://pip.pypa.io/en/stable/reference/requirements-file-format/
    """
    number, parts = 1, list[str]()
    for count, line in enumerate(text.splitlines(), 1):
        number = number if parts else count
        continued = line.endswith("\\") and not line.lstrip().startswith("#")
        bare = re.sub(r"(^|\s+)#.*$", "", line.removesuffix("\\") if continued else line).strip()
        parts.append(bare)
        if not continued:
            if whole := " ".join(part for part in parts if part):
                yield number, whole
            parts = []
    if whole := " ".join(part for part in parts if part):
        yield number, whole


def _pin(text: str, origin: str, file: str) -> Pin:
    if text.startswith("-"):
        raise _bad(origin, f"the option {text.split(maxsplit=1)[0].partition('=')[0]} is not possible in a lock", file)
    words = f" {text}"
    asked = _OPTION.sub("", words).strip()
    try:
        parsed = PythonRequirement(asked)
    except InvalidRequirement as error:
        shown = _CREDENTIALS.sub("//", asked)[:100]
        raise _bad(origin, f"{shown!r} is not a python requirement", file) from error
    found = list(parsed.specifier)
    exact = len(found) == 1 and found[0].operator == "==" and not found[0].version.endswith("*") and not parsed.url
    if not exact:
        raise _bad(origin, f"{parsed.name} is not pinned with ==", file)
    hashes = frozenset(match[1] for row in _OPTION.findall(words) if (match := _SHA256.fullmatch(row)))
    if not hashes:
        raise _bad(origin, f"{parsed.name} has no sha256 hash", file)
    return Pin(canonicalize_name(parsed.name), Version(found[0].version), str(parsed), hashes, origin)


def _pylock_pins(lock: ProjectLock) -> Iterator[Pin]:
    try:
        packages = Pylock.from_dict(tomllib.loads(lock.text)).packages
    except (PylockValidationError, InvalidVersion, tomllib.TOMLDecodeError) as error:
        raise _bad(lock.name, str(error).splitlines()[0], lock.name) from error
    for package in packages:
        if package.version is None:
            raise _bad(lock.name, f"{package.name} has no version", lock.name)
        told = [wheel.hashes for wheel in package.wheels or ()] + ([package.sdist.hashes] if package.sdist else [])
        if any(_CREDENTIALS.search(file.url or "") for file in (*(package.wheels or ()), package.sdist) if file):
            raise _bad(lock.name, f"an address of {package.name} holds a name or password", lock.name)
        hashes = frozenset(row["sha256"] for row in told if "sha256" in row)
        if not hashes:
            raise _bad(lock.name, f"{package.name} has no sha256 hash", lock.name)
        yield Pin(package.name, package.version, f"{package.name}=={package.version}", hashes, lock.name)


def _bad(origin: str, what: str, file: str) -> BuildError:
    return ResolveFailed(f"{origin}: {what}", f"Make the lock with: {_MAKE} {file}", code="bad_lock")


def _not_usable(name: str, what: str) -> BadBuildRequest:
    return BadBuildRequest(
        f"the lock {name[:200]!r} {what}",
        "Name in build.lock a requirements file with hashes that lies in the project.",
        code="bad_lock",
    )
