"""Builds as files, so that a killed builder finds them again: `<folder>/<id>/status.json` and `events.jsonl`."""

from __future__ import annotations

import errno
import logging
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from pydantic import ValidationError

from image_builder.contract import BuildStatus
from image_builder.disk import sweep, sync_folder, write_whole
from image_builder.errors import BuildError, DiskFull

_log = logging.getLogger(__name__)
_ID = re.compile(r"[0-9a-f]{32}")


class BuildStore:
    """Blocking. A status is replaced whole and is on the disk when `save` returns; one process writes at a time."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def save(self, status: BuildStatus) -> None:
        """Raises OSError, or DiskFull."""
        folder = self._folder / status.id
        if not folder.is_dir():
            folder.mkdir(parents=True)
            sync_folder(self._folder)
        write_whole(folder / "status.json", status.model_dump_json().encode())

    def load(self, build_id: str) -> BuildStatus | None:
        """None for what is no id, is not there, or cannot be read (then the log says why)."""
        path = self._folder / build_id / "status.json"
        if not _ID.fullmatch(build_id):
            return None
        try:
            return BuildStatus.model_validate_json(path.read_bytes())
        except FileNotFoundError:
            return None
        except (OSError, ValidationError) as error:
            _log.warning("ignoring the unreadable build record %s: %s", path, str(error).replace("\n", " "))
            return None

    def size(self, build_id: str) -> int:
        """Bytes on the disk."""
        found = [path.stat() for path in (self._folder / build_id).glob("*")]
        return sum(max(file.st_size, file.st_blocks * 512) for file in found)

    def remove(self, build_id: str) -> None:
        """The status goes first: what is left if this is broken off is no build, and swept at the next start."""
        (self._folder / build_id / "status.json").unlink(missing_ok=True)
        shutil.rmtree(self._folder / build_id)

    def all(self) -> Iterator[BuildStatus]:
        """At the start: what a killed process left half-written is swept."""
        if not self._folder.is_dir():
            return
        for folder in self._folder.iterdir():
            sweep(folder)
            if status := self.load(folder.name):
                yield status
            elif _ID.fullmatch(folder.name) and not (folder / "status.json").exists():
                shutil.rmtree(folder)

    def events_path(self, build_id: str) -> Path:
        return self._folder / build_id / "events.jsonl"


def disk_error(error: OSError) -> BuildError:
    """The error for a person, of a file operation that failed."""
    where = f"{error.filename or 'a file'} below STATE_DIR"
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return DiskFull(f"the disk is full: {where}", "Free space there, or move STATE_DIR to a larger disk.")
    return BuildError(
        f"cannot use {where}: {error.strerror or error}",
        "Let the builder read and write the folder STATE_DIR.",
        code="state_dir_unusable",
        retryable=True,
    )
