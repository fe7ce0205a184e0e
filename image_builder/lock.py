"""A lock is a pylock.toml; this chooses from it the wheels that fit the target. Pure.

https://packaging.python.org/en/latest/specifications/pylock-toml/
"""

from __future__ import annotations

import hashlib
import re
import tomllib
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast
from urllib.parse import unquote, urlsplit

from packaging.markers import Environment
from packaging.pylock import (
    Package,
    PackageArchive,
    PackageSdist,
    PackageWheel,
    Pylock,
    PylockSelectError,
    PylockValidationError,
)
from packaging.tags import Tag, compatible_tags, cpython_tags, mac_platforms
from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename

from image_builder.contract import Platform
from image_builder.errors import ResolveFailed
from image_builder.oci.software import Libc

UNKNOWN_BASE = Libc("glibc", 2, 28)
"""Where no base tells its C library: Debian 10 and everything newer."""
_OLDEST_GLIBC = {"x86_64": 5, "aarch64": 17}
_MANYLINUX = {17: "manylinux2014", 12: "manylinux2010", 5: "manylinux1"}
_MACOS = (13, 0)
_KNOWN_TO_UV = (17, 28, *range(31, 41))
"""Minor versions of glibc that `--python-platform` can name; for others the next lower one."""

_CUDA = re.compile(r"nvidia-(?!ml-py$).+|cuda-.+|triton|pytorch-triton.*")


@dataclass(frozen=True, slots=True)
class PinnedWheel:
    """One wheel to install. size: bytes, where the index tells."""

    name: str
    version: str
    filename: str
    url: str
    sha256: str
    size: int | None


@dataclass(frozen=True, slots=True)
class PinnedSource(PinnedWheel):
    """A source archive, to be built into a wheel."""


@dataclass(frozen=True, slots=True)
class Lock:
    """text: the pylock.toml. wheels: sorted by name. sources: of packages without a wheel that fits, by name."""

    text: str
    wheels: tuple[PinnedWheel, ...]
    sources: tuple[PinnedSource, ...] = ()

    def with_built(self, built: Sequence[PinnedWheel]) -> Lock:
        """The same with wheels in place of its sources."""
        return Lock(self.text, tuple(sorted([*self.wheels, *built], key=lambda wheel: (wheel.name, wheel.sha256))))

    @property
    def digest(self) -> str:
        """sha256 hex of what is installed, whatever the layout of the text and wherever the wheels come from."""
        rows = [f"{wheel.name}=={wheel.version} {wheel.sha256}" for wheel in self.wheels]
        return hashlib.sha256("\n".join(rows).encode()).hexdigest()


def read_lock(
    text: str,
    platform: Platform,
    python: str,
    *,
    allowed: Collection[str] | None = None,
    libc: Libc = UNKNOWN_BASE,
) -> Lock:
    """Choose the wheels for a platform and python X.Y, or the sources of packages that have no such wheel.

    Args:
        allowed: sha256 (hex) of the files that may be chosen; None: any.
        libc: of the base image, on Linux.

    Raises:
        ResolveFailed: nothing of a package fits, or it has no sha256.
    """
    try:
        content = tomllib.loads(text)
        pylock = Pylock.from_dict(content if allowed is None else _only(content, allowed))
        chosen = list(
            pylock.select(
                environment=target_environment(platform, python), tags=list(target_tags(platform, python, libc))
            )
        )
    except (PylockSelectError, PylockValidationError, tomllib.TOMLDecodeError) as error:
        raise ResolveFailed(
            f"the lock does not fit python {python} on {platform}{_with(platform, libc)}: {str(error).splitlines()[0]}",
            "Ask for versions that come as wheels for this python and platform.",
            code="no_matching_wheel",
        ) from error
    files = sorted((_pinned(*row) for row in chosen), key=lambda file: (file.name, file.sha256))
    sources = tuple(file for file in files if isinstance(file, PinnedSource))
    return Lock(text, tuple(file for file in files if file not in sources), sources)


def _only(content: dict[str, Any], allowed: Collection[str]) -> dict[str, Any]:
    """A pylock.toml without the files whose sha256 is not allowed."""

    def kept(file: dict[str, Any]) -> bool:
        return file.get("hashes", {}).get("sha256") in allowed

    packages = []
    for package in content.get("packages", []):
        wheels = [wheel for wheel in package.get("wheels", []) if kept(wheel)]
        sdist = {"sdist": package["sdist"]} if "sdist" in package and kept(package["sdist"]) else {}
        if not wheels and not sdist:
            raise ResolveFailed(
                f"no file of {package['name']} {package.get('version', '')} that was found has a hash of the lock",
                "Make the lock anew with the indexes that the builder uses.",
                code="hash_mismatch",
            )
        rest = {key: value for key, value in package.items() if key not in ("wheels", "sdist")}
        packages.append({**rest, **({"wheels": wheels} if wheels else {}), **sdist})
    return {**content, "packages": packages}


def cuda_parts(lock: Lock, asked: Collection[str]) -> list[str]:
    """Names of CUDA libraries in a lock that nobody asked for by name."""
    wanted = {canonicalize_name(name) for name in asked}
    return [wheel.name for wheel in lock.wheels if _CUDA.fullmatch(wheel.name) and wheel.name not in wanted]


def target_tags(platform: Platform, python: str, libc: Libc = UNKNOWN_BASE) -> Iterator[Tag]:
    """Wheel tags that the target takes, best first."""
    major, minor = (int(part) for part in python.split("."))
    interpreter = f"cp{major}{minor}"
    platforms = _platforms(platform, libc)
    yield from cpython_tags((major, minor), [interpreter], platforms)
    yield from compatible_tags((major, minor), interpreter, platforms)


def target_environment(platform: Platform, python: str) -> Environment:
    """Values of the environment markers; python's patch level is 0, as uv assumes too."""
    linux = platform.startswith("linux/")
    environment = {
        "implementation_name": "cpython",
        "implementation_version": f"{python}.0",
        "os_name": "posix",
        "platform_machine": uv_machine(platform) if linux or platform.endswith("amd64") else "arm64",
        "platform_python_implementation": "CPython",
        "platform_release": "",
        "platform_system": "Linux" if linux else "Darwin",
        "platform_version": "",
        "python_full_version": f"{python}.0",
        "python_version": python,
        "sys_platform": "linux" if linux else "darwin",
    }
    return cast("Environment", environment)


def uv_platform(platform: Platform, libc: Libc = UNKNOWN_BASE) -> str:
    """uv's word for a platform."""
    machine = uv_machine(platform)
    if platform.startswith("darwin/"):
        return f"{machine}-apple-darwin"
    if libc.kind == "musl":
        return f"{machine}-unknown-linux-musl"
    level = max((minor for minor in _KNOWN_TO_UV if minor <= libc.minor), default=_KNOWN_TO_UV[0])
    return f"{machine}-manylinux_2_{level}"


def _with(platform: Platform, libc: Libc) -> str:
    return f" with {libc}" if platform.startswith("linux/") else ""


def uv_machine(platform: Platform) -> str:
    return "x86_64" if platform.endswith("/amd64") else "aarch64"


def _platforms(platform: Platform, libc: Libc) -> list[str]:
    """Best first: https://packaging.python.org/en/latest/specifications/platform-compatibility-tags/"""
    machine = uv_machine(platform)
    if platform.startswith("darwin/"):
        return list(mac_platforms(_MACOS, "arm64" if machine == "aarch64" else "x86_64"))
    if libc.kind == "musl":
        return [*(f"musllinux_1_{minor}_{machine}" for minor in range(libc.minor, -1, -1)), f"linux_{machine}"]
    names = []
    for minor in range(libc.minor, _OLDEST_GLIBC[machine] - 1, -1):
        names.append(f"manylinux_2_{minor}_{machine}")
        if minor in _MANYLINUX:
            names.append(f"{_MANYLINUX[minor]}_{machine}")
    return [*names, f"linux_{machine}"]


def _pinned(package: Package, artifact: object) -> PinnedWheel:
    if not isinstance(artifact, PackageWheel | PackageSdist | PackageArchive) or not artifact.url:
        raise _source_only(package)
    filename = unquote(urlsplit(artifact.url).path).rpartition("/")[2]
    kind = PinnedSource if isinstance(artifact, PackageSdist) else PinnedWheel
    try:
        version = str(package.version or parse_wheel_filename(filename)[1])
        if kind is PinnedWheel:
            parse_wheel_filename(filename)
    except InvalidWheelFilename as error:
        raise _source_only(package) from error
    sha256 = artifact.hashes.get("sha256", "")
    if not re.fullmatch(r"[0-9a-f]{64}", sha256):
        raise ResolveFailed(
            f"the package index gives no sha256 for {filename}",
            "Use an index that does, so that what is installed can be verified.",
            code="hash_missing",
        )
    return kind(str(package.name), version, filename, artifact.url, sha256, artifact.size)


def _source_only(package: Package) -> ResolveFailed:
    return ResolveFailed(
        f"{package.name} {package.version or ''} is neither a wheel nor a released source archive".replace("  ", " "),
        "Ask for a version that comes as a wheel.",
        code="source_package_unsupported",
    )
