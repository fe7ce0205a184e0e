"""Runs inside the image, alone: each command of `pre_exec` in order, then becomes the entrypoint.

Needs nothing but python 3. Exits with the code of the command that failed: 127 if it was not found, 128 + n if
signal n ended it, as a shell would.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import NoReturn

_NOT_FOUND = 127


def main() -> None:
    wishes = json.loads(Path(__file__).with_name("launch.json").read_text(encoding="utf-8"))
    # As process 1 of a container nothing would end us by default; leaving also ends the command that runs.
    signal.signal(signal.SIGTERM, lambda number, _frame: sys.exit(128 + number))
    for argv in wishes["pre_exec"]:
        _run(argv)
    entrypoint = wishes["entrypoint"]
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        os.execvp(entrypoint[0], entrypoint)  # noqa: S606 - the point is to run what was asked for
    except OSError as error:
        _stop(f"entrypoint {entrypoint} cannot be run: {error.strerror}", _NOT_FOUND)


def _run(argv: list[str]) -> None:
    try:
        code = subprocess.run(argv, check=False).returncode
    except OSError as error:
        _stop(f"pre_exec {argv} cannot be run: {error.strerror}", _NOT_FOUND)
    if code:
        _stop(f"pre_exec {argv} failed with exit code {code}", code if code > 0 else 128 - code)


def _stop(message: str, code: int) -> NoReturn:
    sys.stderr.write(f"cloud-deploy: {message}\n")
    sys.exit(code)


if __name__ == "__main__":
    main()
