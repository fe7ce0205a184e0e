"""Parts of the outside world that a test needs. Missing: skipped with the reason; under REQUIRE_ALL=1: failed."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest

# Debian keeps the server programs of PostgreSQL off PATH.
_ELSEWHERE = ("/usr/lib/postgresql/*/bin", "/usr/local/bin", "/opt/homebrew/bin")


def missing(reason: str) -> None:
    """Skip with the reason, or fail where everything is required."""
    if os.environ.get("REQUIRE_ALL") == "1":
        pytest.fail(f"REQUIRE_ALL=1, yet: {reason}", pytrace=False)
    pytest.skip(reason)


def program(name: str) -> str:
    """Path of a program, or a skip that names it."""
    found = shutil.which(name)
    for pattern in _ELSEWHERE:
        for folder in sorted(Path("/").glob(pattern.lstrip("/")), reverse=True):
            found = found or shutil.which(name, path=str(folder))
    if not found:
        missing(f"the program {name} is not installed")
    return str(found)


def linux(what: str) -> None:
    if sys.platform != "linux":
        missing(f"{what} exists on Linux only")


def root_on_linux(what: str) -> None:
    linux(what)
    if os.geteuid() != 0:
        missing(f"{what} needs root")
