"""sha256 of files, remembered by their stat: an unchanged file is read once."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import sqlite3
import stat
import threading
import time
from pathlib import Path

from image_builder.real_path import open_real
from image_builder.work import StopFlag

_log = logging.getLogger(__name__)

_CHUNK = 1 << 20
_SETTLED_NS = 2_000_000_000
"""A file changed less than this ago may change again without a new time stamp, so its hash is not remembered."""

_SCHEMA = """create table if not exists hashes (
    device integer, inode integer, size integer, changed integer, modified integer, sha256 text not null,
    primary key (device, inode)) without rowid"""


class FileHashes:
    """Thread-safe. `database`: where it is kept between runs; None: in memory only."""

    def __init__(self, database: Path | None = None) -> None:
        self._lock = threading.Lock()
        self._rows = _opened(database)

    def sha256(self, path: Path, flag: StopFlag | None = None) -> str:
        """Hex digest of a regular file, of as many bytes as it had when it was opened; no part of `path` may be a link.

        Raises:
            OSError: it cannot be read, or is no regular file.
        """
        descriptor = open_real(path)
        with os.fdopen(descriptor, "rb", buffering=0):
            before = os.fstat(descriptor)
            if not stat.S_ISREG(before.st_mode):
                raise OSError(f"not a regular file: {path}")
            known = self.known(before)
            if known is not None:
                return known
            digest = _digest(descriptor, before.st_size, flag)
            if _identity(os.fstat(descriptor)) == _identity(before):
                self._remember(before, digest)
            return digest

    def clear(self) -> None:
        """Forget all, and give the room back to the disk."""
        with self._lock:
            self._rows.execute("delete from hashes")
            self._rows.execute("vacuum")
            self._rows.execute("pragma wal_checkpoint(truncate)")

    def close(self) -> None:
        with self._lock:
            self._rows.close()

    def known(self, found: os.stat_result) -> str | None:
        """Hex digest of a regular file that was read before and is as it was then."""
        with self._lock:
            try:
                row = self._rows.execute(
                    "select sha256 from hashes where device=? and inode=? and size=? and changed=? and modified=?",
                    _identity(found),
                ).fetchone()
            except sqlite3.DatabaseError:  # a part of it is damaged: then the file is read again
                return None
        return None if row is None else str(row[0])

    def _remember(self, found: os.stat_result, digest: str) -> None:
        if time.time_ns() - max(found.st_mtime_ns, found.st_ctime_ns) < _SETTLED_NS:
            return
        with self._lock, contextlib.suppress(sqlite3.DatabaseError):  # no room for it: then it is read again
            self._rows.execute("insert or replace into hashes values (?,?,?,?,?,?)", (*_identity(found), digest))


def _opened(database: Path | None) -> sqlite3.Connection:
    """The database; a new one where it is torn, and one in memory where the disk has no room for any."""
    if database is None:
        return _connected(":memory:")
    try:
        return _connected(database)
    except sqlite3.OperationalError as error:
        _log.warning("hashes of files are not kept in %s: %s", database, error)
        return _connected(":memory:")
    except sqlite3.DatabaseError as error:
        _log.warning("%s is made anew: %s", database, error)
        for suffix in ("", "-wal", "-shm"):
            database.with_name(database.name + suffix).unlink(missing_ok=True)
        return _connected(database)


def _connected(database: Path | str) -> sqlite3.Connection:
    rows = sqlite3.connect(database, check_same_thread=False, isolation_level=None, timeout=30)
    try:
        # A cache: losing the last writes in a power cut costs a second reading, so nothing is synced.
        rows.execute("pragma journal_mode=wal")
        rows.execute("pragma synchronous=off")
        rows.execute(_SCHEMA)
    except sqlite3.DatabaseError:
        rows.close()
        raise
    return rows


def _identity(found: os.stat_result) -> tuple[int, int, int, int, int]:
    # sqlite's integers are signed; some filesystems use all 64 bits of an inode number.
    inode = found.st_ino - (1 << 64) if found.st_ino >= 1 << 63 else found.st_ino
    return found.st_dev, inode, found.st_size, found.st_ctime_ns, found.st_mtime_ns


def _digest(descriptor: int, left: int, flag: StopFlag | None) -> str:
    """Of `left` bytes: a file that grows as fast as it is read would never end."""
    digest = hashlib.sha256()
    while chunk := os.read(descriptor, min(left, _CHUNK)):
        digest.update(chunk)
        left -= len(chunk)
        if flag is not None:
            flag.check()
    return digest.hexdigest()
