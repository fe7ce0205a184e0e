"""What is asked of apt, in its own words, and what its answers mean. Pure."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from image_builder.errors import BadBuildRequest, BuildError, DiskFull

FORMAT = 1
"""Part of every key: raised when the same base and list shall give another layer than before."""

CA_FILE = "/.cloud-deploy/ca.crt"
"""Where the host's CA bundle lies while apt runs; nothing below this folder comes into an image."""

POLICY_FILE = "/usr/sbin/policy-rc.d"
POLICY = b"#!/bin/sh\nexit 101\n"
"""No package starts its service while it is installed: see invoke-rc.d(8)."""

# https://www.debian.org/doc/debian-policy/ch-controlfields.html#source and #version. A name that ends in `-` would be
# taken by apt-get for one to remove.
_NAME = re.compile(r"[a-z0-9][a-z0-9+.-]*[a-z0-9+.]")
_VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9.+:~-]*")
_LONGEST = 200
_PROXIES = ("http_proxy", "https_proxy", "ftp_proxy", "all_proxy", "no_proxy")
_CA_NAMES = ("SSL_CERT_FILE", "CURL_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "GIT_SSL_CAINFO")


@dataclass(frozen=True, slots=True)
class SystemPackage:
    """text: `name` or `name=version`. origin: where a person wrote it, `file:line:column: path`, or empty."""

    text: str
    origin: str = ""

    @property
    def name(self) -> str:
        return self.text.partition("=")[0]


def system_packages(texts: Sequence[str], origins: Sequence[str] = ()) -> tuple[SystemPackage, ...]:
    """Checked, sorted, each once.

    Raises:
        BadBuildRequest: code `bad_system_package`; names the line where it is known.
    """
    rows: dict[str, SystemPackage] = {}
    for index, text in enumerate(texts):
        package = SystemPackage(text, origins[index] if index < len(origins) else "")
        _check(package)
        rows.setdefault(text, package)
    return tuple(rows[text] for text in sorted(rows))


def _check(package: SystemPackage) -> None:
    name, equals, version = package.text.partition("=")
    if len(package.text) > _LONGEST or not _NAME.fullmatch(name) or (equals and not _VERSION.fullmatch(version)):
        raise BadBuildRequest(
            f"{_at([package])}{package.text[:_LONGEST]!r} is not the name of a Debian package",
            "Write a name with an optional version, e.g. vim or vim=2:9.0.1378-2.",
            code="bad_system_package",
        )


def layer_key(base: str, packages: Sequence[SystemPackage]) -> str:
    """64 hex digits over the base's manifest digest and the list; whoever asks, in any order."""
    parts = {"kind": "apt", "format": FORMAT, "base": base, "packages": sorted(row.text for row in packages)}
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def commands(packages: Sequence[SystemPackage], *, ca: bool) -> tuple[tuple[str, ...], ...]:
    """argv lists, run in order as root in the base. No shell sees them."""
    get = ("apt-get", "-q", "-o", "Acquire::Retries=3", *(("-o", f"Acquire::https::CAInfo={CA_FILE}") if ca else ()))
    return (
        # Without Error-Mode apt-get says 0 although it reached nobody.
        (*get, "-o", "APT::Update::Error-Mode=any", "update"),
        # Pattern-Only: a dot in the name of a package that does not exist would make it a regular expression.
        (
            *(*get, "-y", "--no-install-recommends", "-o", "APT::Cmd::Pattern-Only=true"),
            *("-o", "Dpkg::Options::=--force-confold", "-o", "Dpkg::Use-Pty=false", "install", "--"),
            *(row.text for row in packages),
        ),
        ("find", "/var/lib/apt/lists", "/var/cache/apt", "-type", "f", "!", "-name", "lock", "-delete"),
    )


def environment(environ: Mapping[str, str], *, ca: bool) -> dict[str, str]:
    """Variables for those commands alone; nothing of them is kept. environ: the builder's own, for its proxies."""
    trust = dict.fromkeys(_CA_NAMES, CA_FILE) if ca else {}
    return {
        **proxies(environ),
        **trust,
        "DEBIAN_FRONTEND": "noninteractive",
        "LC_ALL": "C.UTF-8",
        # Python's bytecode is then bound to the content of its source, not to the time, which is fixed afterwards.
        "SOURCE_DATE_EPOCH": "1",
    }


def proxies(environ: Mapping[str, str]) -> dict[str, str]:
    """The usual variables, in both spellings, as they are set."""
    return {name: value for name, value in environ.items() if name.lower() in _PROXIES and value}


def failure(output: str, packages: Sequence[SystemPackage]) -> BuildError:
    """The error for what a command wrote before it failed, in one line."""
    reason = _reason(output)
    if full := _FULL.search(output):
        line = next(line for line in output.splitlines() if full[0] in line).strip().removeprefix("E: ")
        return DiskFull(f"apt-get ran out of space: {line[:600]}", "Make room where the build engine keeps its files.")
    for pattern, code, words, fix in _KINDS:
        if pattern.search(output):
            wrong = f"{_at(_named(output, packages, pattern))}{words}{reason}"
            again = code == "apt_unreachable"
            return (
                BuildError(wrong, fix, code=code, retryable=again) if again else BadBuildRequest(wrong, fix, code=code)
            )
    return BuildError(f"apt-get failed: {reason}", "See the log of the build.", code="apt_failed")


_FULL = re.compile(r"no space left on device|don't have enough free space", re.IGNORECASE)

# (what apt or the engine writes, code, words before the reason, fix), the first that matches is meant. What a pattern
# catches is the name of a package.
_KINDS = (
    (
        re.compile(r"executable file not found|apt-get\S*: no such file|exec format error", re.IGNORECASE),
        "no_apt_in_base",
        "apt-get does not run in the base image: ",
        "Take a base image of Debian or Ubuntu for this machine's architecture, or remove custom_packages.apt.",
    ),
    (
        re.compile(r"Version '\S+' for '(\S+)' was not found"),
        "apt_version_not_found",
        "",
        "Ask for a version that the base image's sources have, or leave the version out.",
    ),
    (
        re.compile(r"Unable to locate package (\S+)"),
        "apt_package_not_found",
        "",
        "Correct the name, or take a base image whose release has the package.",
    ),
    (
        re.compile(r"Package '(\S+)' has no installation candidate"),
        "apt_package_not_found",
        "",
        "Name the package that provides it, or take a base image whose release has it.",
    ),
    (
        re.compile(
            r"Failed to fetch|Temporary failure|Could not (?:connect|resolve)|Unable to connect|Hash Sum mismatch|"
            r"Connection (?:failed|timed out)|File has unexpected size|is not valid yet|certificate verif",
            re.IGNORECASE,
        ),
        "apt_unreachable",
        "apt-get cannot reach its package sources: ",
        "It is tried again by itself; see to the network or the proxy (http_proxy), or set BUILD_NETWORK=host.",
    ),
    (
        re.compile(r"held broken packages|unmet dependencies|Unable to correct problems"),
        "apt_conflict",
        "the system packages do not fit together: ",
        "Leave one of them out, or ask for other versions.",
    ),
)


def _reason(output: str) -> str:
    """apt's own errors; where there are none, its last line."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    errors = [line.removeprefix("E: ") for line in lines if line.startswith("E: ")]
    depends = [line for line in lines if re.match(r"(\S+ : )?(Depends|Conflicts|Breaks|PreDepends): ", line)]
    said = [*errors[:3], *depends[:3]] or lines[-1:] or ["it said nothing"]
    return "; ".join(dict.fromkeys(said))[:600]


def _named(output: str, packages: Sequence[SystemPackage], pattern: re.Pattern[str]) -> list[SystemPackage]:
    """The packages that were asked for by the names caught."""
    names = set(pattern.findall(output)) if pattern.groups else set()
    return [row for row in packages if row.name in names]


def _at(packages: Sequence[SystemPackage]) -> str:
    return "".join(f"{origin}: " for origin in dict.fromkeys(row.origin for row in packages if row.origin))
