"""Each use of an engine has an id and a locked folder: what has an id whose lock is free was left by the dead."""

from __future__ import annotations

import contextlib
import fcntl
import secrets
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Run:
    """id: 32 hex digits. folder: for its files."""

    id: str
    folder: Path


class Runs:
    """In one folder, which several builders may share."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @contextlib.contextmanager
    def begin(self) -> Iterator[Run]:
        """A new run; its lock is held for as long as this is entered, and it is dead afterwards, unless forgotten."""
        name = secrets.token_hex(16)
        folder = self._folder / name
        folder.mkdir(parents=True)
        with (folder / ".lock").open("xb") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield Run(name, folder)

    def dead(self) -> list[Run]:
        """Those that ended without their end."""
        found = []
        for lock in sorted(self._folder.glob("*/.lock")):
            with contextlib.suppress(FileNotFoundError, BlockingIOError), lock.open("rb") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                found.append(Run(lock.parent.name, lock.parent))
        return found

    def forget(self, run: Run) -> None:
        """What the run made in the engine is gone; its folder goes, too."""
        shutil.rmtree(run.folder, ignore_errors=True)
