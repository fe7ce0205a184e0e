"""Runs one program and ends with it; kills it, and all its children, when whoever started us is gone.

`python runtime_supervisor.py LOG GRACE -- PROGRAM ARGUMENTS…`, standard library only, run as a file. Its standard input
is a pipe that nobody writes to: its end means that the starter wants us to stop, or was killed, on Linux and macOS
alike. What the program writes goes to LOG, one JSON object a line: Unix time, stream, text.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import IO

_LONGEST_LINE = 256 * 1024  # https://cloud.google.com/logging/quotas: bytes of an entry
_PR_SET_PDEATHSIG = 1  # https://man7.org/linux/man-pages/man2/PR_SET_PDEATHSIG.2const.html


def main(log: str, grace: float, argv: list[str]) -> int:
    """The program's exit status, 128 + the signal's number where one ended it, 127 if it cannot be started."""
    with open(log, "a", buffering=1, encoding="utf-8") as file:  # noqa: PTH123 - no import that is not needed
        lock = threading.Lock()
        try:
            program = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,
                preexec_fn=_die_with_parent(),  # noqa: PLW1509 - one system call, before there are threads
            )
        except OSError as error:
            _write(file, lock, "stderr", f"{argv[0]}: {error.strerror}")
            return 127
        pumps = [
            _pump(stream, name, file, lock) for name, stream in (("stdout", program.stdout), ("stderr", program.stderr))
        ]
        threading.Thread(target=_stop_with_input, args=(program, grace), daemon=True).start()
        signal.signal(signal.SIGTERM, lambda *_: _end(program.pid, signal.SIGTERM))
        status = program.wait()
        _end(program.pid, signal.SIGKILL)  # children that outlived it
        for pump in pumps:
            pump.join(1.0)
        return status if status >= 0 else 128 - status


def _stop_with_input(program: subprocess.Popen[bytes], grace: float) -> None:
    while os.read(0, 4096):
        pass
    _end(program.pid, signal.SIGTERM)
    time.sleep(grace)
    _end(program.pid, signal.SIGKILL)


def _end(group: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):  # macOS says so of a group of zombies
        os.killpg(group, number)


def _pump(stream: IO[bytes] | None, name: str, file: IO[str], lock: threading.Lock) -> threading.Thread:
    def copy() -> None:
        while stream is not None and (line := stream.readline(_LONGEST_LINE)):
            _write(file, lock, name, line.decode("utf-8", "replace").rstrip("\r\n"))

    thread = threading.Thread(target=copy, daemon=True)
    thread.start()
    return thread


def _write(file: IO[str], lock: threading.Lock, stream: str, text: str) -> None:
    with lock, contextlib.suppress(OSError, ValueError):  # a full disk must not stop the program
        file.write(json.dumps({"time": time.time(), "stream": stream, "text": text}) + "\n")


def _die_with_parent() -> Callable[[], None] | None:
    """On Linux the program dies with us even if we are killed; elsewhere the next start sweeps it away."""
    if not sys.platform.startswith("linux"):
        return None
    libc = ctypes.CDLL(None)
    return lambda: libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], float(sys.argv[2]), sys.argv[4:]))
