"""No tracked file may hold what is true on one machine or network only: a package index, a local path, a lock's URL.

The names of the public index are taken from pip, those of a private one from pip's settings, so that none is written
here. Exit status 1 and one line `file:line: reason` for each find.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import urllib.parse
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from pip._internal.models.index import PyPI, TestPyPI

ROOT = Path(__file__).resolve().parent.parent
MACHINE_PATH = re.compile(r"(?<![\w./-])/(?:(?:root|work)/\w|(?:home|Users)/\w+)")
LOCK = re.compile(r"(^|/)([\w.-]+\.lock|[\w.-]*requirements[\w.-]*\.txt)$")


def main() -> int:
    finds = [find for path in tracked() for find in judge(path)]
    for find in finds:
        sys.stdout.write(find + "\n")
    if not finds:
        sys.stdout.write("Tracked files name no package index, no path of one machine, no URL in a lock.\n")
    return 1 if finds else 0


def tracked() -> list[str]:
    listing = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True)
    return [name for name in listing.stdout.split("\0") if name and (ROOT / name).is_file()]


def judge(name: str) -> Iterator[str]:
    sources = index_hosts() | wheel_folders()
    text = (ROOT / name).read_bytes().decode("utf-8", "replace")
    for number, line in enumerate(text.splitlines(), 1):
        for host in sources:
            if host in line:
                yield f"{name}:{number}: names {host}, a package index or folder of wheels"
        if found := MACHINE_PATH.search(line):
            yield f"{name}:{number}: holds {found.group().strip()}, a path of one machine"
        if LOCK.search(name) and re.search(r"(https?|file)://", line):
            yield f"{name}:{number}: a lock holds a URL; names, versions and hashes are enough"


def index_hosts() -> set[str]:
    """Of the public index (with its file servers), and of what this machine's pip is set to use."""
    hosts: set[str] = {PyPI.netloc, PyPI.file_storage_domain, TestPyPI.netloc, TestPyPI.file_storage_domain}
    for variable in ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "UV_DEFAULT_INDEX", "UV_INDEX"):
        hosts |= {urllib.parse.urlsplit(url).hostname or "" for url in os.environ.get(variable, "").split()}
    return {host for host in hosts if host and host not in ("localhost", "127.0.0.1")}


@cache
def wheel_folders() -> set[str]:
    """Folders of this machine from which pip is set to take wheels."""
    told = subprocess.run([sys.executable, "-m", "pip", "config", "list"], check=True, capture_output=True, text=True)
    lines = [line for line in told.stdout.splitlines() if re.search(r"find-links|index", line)]
    return {path for line in lines for path in re.findall(r"(?<![\w:/])(?:file://)?(/[\w.-]+/[\w./-]+)", line)}


if __name__ == "__main__":
    raise SystemExit(main())
