"""The folder of one project of the `local` target: who owns it, what is wished, what is. Standard library only."""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cloud_manager.targets.local_run import Report, Run


def write_json(path: Path, value: Any) -> None:
    """Replace a file whole or not at all; readable by this user alone, since it may hold secrets."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            json.dump(value, file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def read_json(path: Path) -> dict[str, Any] | None:
    """The content, or None if there is no such file, or none that makes sense."""
    try:
        value = json.loads(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None
    return value if isinstance(value, dict) else None


class Folder:
    """`identity` is random, made once, and carried in the environment of every process started for the project."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.logs = path / "logs"
        self.revisions = path / "revisions"
        self.lock = path / "lock"
        self.stop = path / "stop"

    def owner(self) -> dict[str, Any] | None:
        return read_json(self.path / "project.json")

    def create(self, user_id: str, project_id: str) -> None:
        """Write the mark of ownership, once."""
        for folder in (self.path, self.logs, self.revisions):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if self.owner() is None:
            owner = {"user_id": user_id, "project_id": project_id, "identity": secrets.token_hex(16)}
            write_json(self.path / "project.json", owner)

    def identity(self) -> str | None:
        owner = self.owner()
        return str(owner["identity"]) if owner else None

    def root(self, revision: str) -> Path:
        return self.revisions / revision / "root"

    def save_run(self, run: Run) -> None:
        write_json(self.revisions / run.revision / "run.json", run.to_json())

    def load_run(self, revision: str) -> Run | None:
        value = read_json(self.revisions / revision / "run.json")
        return Run.from_json(value) if value else None

    def wish(self, revision: str) -> str:
        """Ask the supervisor for a revision; returns the nonce with which it reports having heard."""
        nonce = secrets.token_hex(8)
        write_json(self.path / "wanted.json", {"nonce": nonce, "revision": revision})
        return nonce

    def wished(self) -> tuple[str, str] | None:
        """(nonce, revision)"""
        value = read_json(self.path / "wanted.json")
        return (str(value["nonce"]), str(value["revision"])) if value else None

    def report(self) -> Report | None:
        value = read_json(self.path / "state.json")
        return Report.from_json(value) if value else None

    def save_report(self, report: Report) -> None:
        write_json(self.path / "state.json", report.to_json())

    def supervised(self) -> bool:
        """Whether a supervisor lives: it holds the lock for its life, and the kernel frees it with the process."""
        try:
            descriptor = os.open(self.lock, os.O_RDONLY)
        except FileNotFoundError:
            return False
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(descriptor)
        return False

    @contextmanager
    def holding_lock(self, seconds: float) -> Iterator[bool]:
        """Hold the supervisor's lock; False if someone else does, or if the file is not the one we locked. Blocking.

        Args:
            seconds: how long to try; `supervised` of another process may hold the lock for a moment.
        """
        descriptor = os.open(self.lock, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            yield _locked(descriptor, seconds) and _same_file(descriptor, self.lock)
        finally:
            os.close(descriptor)


def _locked(descriptor: int, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                return False
            time.sleep(0.02)
        else:
            return True


def _same_file(descriptor: int, path: Path) -> bool:
    """The file may have been removed, and even made anew, between opening and locking it."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False
