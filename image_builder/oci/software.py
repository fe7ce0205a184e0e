"""What the files of an image say of the software in it: its distribution, C library and packages. Pure."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from email.parser import HeaderParser
from typing import Literal

PackageKind = Literal["deb", "apk", "pypi"]


@dataclass(frozen=True, slots=True, order=True)
class Libc:
    """The C library of an image; wheels with machine code are made for one kind, from some version on."""

    kind: Literal["glibc", "musl"]
    major: int
    minor: int

    def __str__(self) -> str:
        return f"{self.kind} {self.major}.{self.minor}"


@dataclass(frozen=True, slots=True, order=True)
class Installed:
    """One package. source: name of the source package, where it is another. where: folder of a python package."""

    kind: PackageKind
    name: str
    version: str
    architecture: str = ""
    source: str = ""
    where: str = ""


@dataclass(frozen=True, slots=True)
class Software:
    """distribution, release: ID and VERSION_ID of os-release, e.g. `debian` and `12`; empty if there is none."""

    distribution: str = ""
    release: str = ""
    libc: Libc | None = None
    packages: tuple[Installed, ...] = ()


NOTHING_KNOWN = Software()


def most_of(path: str) -> int:
    """How many bytes of a file are to be read; 0: it says nothing of software."""
    if _ANY.fullmatch(path) is None:
        return 0
    return next(size for pattern, size, _ in _FILES if re.fullmatch(pattern, path))


def read_file(path: str, data: bytes) -> Software:
    """What one file says. Nothing that is written in it can make this fail."""
    return next((read(path, data) for pattern, _, read in _FILES if re.fullmatch(pattern, path)), NOTHING_KNOWN)


def merged(parts: Iterable[Software]) -> Software:
    """All that files say together; of two C libraries the GNU one counts, which wheels are mostly made for."""
    rows = list(parts)
    named = next((row for row in rows if row.distribution), NOTHING_KNOWN)
    libcs = sorted({row.libc for row in rows if row.libc is not None})
    packages = {package for row in rows for package in row.packages}
    return Software(
        named.distribution, named.release, _chosen(libcs, packages) if libcs else None, tuple(sorted(packages))
    )


def _chosen(libcs: list[Libc], packages: Iterable[Installed]) -> Libc:
    gnu = [libc for libc in libcs if libc.kind == "glibc"]
    if gnu:
        return gnu[-1]
    told = next((row.version for row in packages if row.kind == "apk" and row.name == "musl"), "")
    found = re.match(r"(\d+)\.(\d+)", told)
    return Libc("musl", int(found[1]), int(found[2])) if found else libcs[-1]


def _os_release(_path: str, data: bytes) -> Software:
    """https://www.freedesktop.org/software/systemd/man/latest/os-release.html"""
    rows = {name: value.strip("\"'") for name, _, value in (line.partition("=") for line in _lines(data))}
    return Software(rows.get("ID", "linux"), rows.get("VERSION_ID", ""))


def _glibc(_path: str, data: bytes) -> Software:
    """Its own words, which it prints when it is run."""
    found = re.search(rb"GNU C Library [^\0\n]{0,100}version (\d+)\.(\d+)", data)
    return Software(libc=Libc("glibc", int(found[1]), int(found[2]))) if found else NOTHING_KNOWN


def _musl(_path: str, data: bytes) -> Software:
    """1.1 where it does not tell: https://peps.python.org/pep-0656/ knows no older one."""
    found = re.search(rb"\0(1)\.(\d{1,2})\.\d{1,3}(?:[-\w.]*)\0", data)
    return Software(libc=Libc("musl", 1, int(found[2]) if found else 1))


def _dpkg(_path: str, data: bytes) -> Software:
    """https://manpages.debian.org/dpkg: what is removed stays in the file with another status. Files of `status.d`,
    which have none, are of images made without dpkg.
    """
    rows = []
    for stanza in _stanzas(data):
        installed = stanza.get("Status", "install ok installed").endswith(" installed")
        if installed and stanza.get("Package") and stanza.get("Version"):
            source = stanza.get("Source", "").partition(" ")[0]
            rows.append(Installed("deb", stanza["Package"], stanza["Version"], stanza.get("Architecture", ""), source))
    return Software(packages=tuple(rows))


def _apk(_path: str, data: bytes) -> Software:
    """https://wiki.alpinelinux.org/wiki/Apk_spec#Syntax"""
    rows = []
    for stanza in _stanzas(data):
        if stanza.get("P") and stanza.get("V"):
            source = stanza.get("o", "")
            rows.append(
                Installed("apk", stanza["P"], stanza["V"], stanza.get("A", ""), source if source != stanza["P"] else "")
            )
    return Software(packages=tuple(rows))


def _python(path: str, data: bytes) -> Software:
    """https://packaging.python.org/en/latest/specifications/core-metadata/"""
    head = HeaderParser().parsestr(data.decode(errors="replace"))
    name, version = str(head.get("Name") or ""), str(head.get("Version") or "")
    if not name or not version:
        return NOTHING_KNOWN
    folder = path.rpartition(".egg-info" if ".egg-info" in path else ".dist-info")[0]
    return Software(packages=(Installed("pypi", name, version, where=f"/{posixpath.dirname(folder)}"),))


def _stanzas(data: bytes) -> Iterator[Mapping[str, str]]:
    """Fields by name; lines that go on are left out: none of those asked for does."""
    stanza: dict[str, str] = {}
    for line in [*_lines(data), ""]:
        if not line.strip():
            if stanza:
                yield stanza
            stanza = {}
        elif not line[0].isspace():
            name, _, value = line.partition(":")
            stanza.setdefault(name, value.strip())


def _lines(data: bytes) -> list[str]:
    return data.decode(errors="replace").split("\n")


_LONG, _HEAD = 64 << 20, 8 << 10
_PACKAGES = r"(?:.*/)?(?:site|dist)-packages/[^/]+"
_FILES: tuple[tuple[str, int, Callable[[str, bytes], Software]], ...] = (
    (r"(?:etc|usr/lib)/os-release", _HEAD, _os_release),
    (r"(?:usr/)?lib[^/]*/(?:[^/]+/)?libc(?:\.so\.6|-2\.\d+\.so)", 8 << 20, _glibc),
    (r"(?:usr/)?lib/ld-musl-[^/]+\.so\.1", 2 << 20, _musl),
    (r"var/lib/dpkg/status", _LONG, _dpkg),
    (r"var/lib/dpkg/status\.d/[^/]+(?<!\.md5sums)", _HEAD << 3, _dpkg),
    (r"(?:usr/)?lib/apk/db/installed", _LONG, _apk),
    (rf"{_PACKAGES}\.dist-info/METADATA", _HEAD, _python),
    (rf"{_PACKAGES}\.egg-info(?:/PKG-INFO)?", _HEAD, _python),
)
"""Pattern of the path, how many bytes of such a file are read at most, and what reads them."""
_ANY = re.compile("|".join(f"(?:{pattern})" for pattern, _, _ in _FILES), re.DOTALL)
