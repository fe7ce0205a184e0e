"""What the twin remembers: one folder that outlives it, whatever ends it.

Small things are rows of a key-value table in SQLite, one table for each kind of resource; a write that has returned
outlives `kill -9`. Large ones are files beside it (`Blobs`). All is synchronous: a row takes microseconds.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import secrets
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Generic, TypeVar

V = TypeVar("V")
_HIGHEST = "\U0010ffff"
_BLOB_KEY = re.compile(r"[0-9A-Za-z][0-9A-Za-z._-]{0,199}")


class FolderInUse(Exception):
    """Another emulator works in the folder."""


class State:
    """One folder. Tables may be used from any thread; one process at a time holds the folder."""

    def __init__(self, folder: Path) -> None:
        """Raises FolderInUse, OSError, sqlite3.Error."""
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self._lock = threading.RLock()
        self._depth = 0
        self._handle = _hold(folder)
        self._rows = sqlite3.connect(folder / "state.sqlite", isolation_level=None, check_same_thread=False)
        self._rows.execute("PRAGMA journal_mode = WAL")
        self._rows.execute("PRAGMA synchronous = NORMAL")  # a process that dies loses nothing, a power cut may
        self._rows.execute(
            "CREATE TABLE IF NOT EXISTS rows"
            " (kind TEXT, key TEXT, value BLOB NOT NULL, PRIMARY KEY (kind, key)) WITHOUT ROWID"
        )

    def json_table(self, kind: str) -> Table[Any]:
        """Rows of this kind hold what JSON can say."""
        return Table(self, kind, lambda value: json.dumps(value).encode(), json.loads)

    def bytes_table(self, kind: str) -> Table[bytes]:
        """Rows of this kind hold bytes, e.g. serialised messages of protobuf."""
        return Table(self, kind, bytes, bytes)

    def blobs(self, kind: str) -> Blobs:
        """Files of this kind."""
        return Blobs(self.folder / "blobs" / kind)

    def next_number(self, name: str) -> int:
        """1, 2, 3 …: no number twice, whatever ends the process."""
        numbers = self.json_table("numbers")
        with self.transaction():
            number = int(numbers.get(name) or 0) + 1
            numbers.put(name, number)
        return number

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All writes of the block happen, or none of them. Never await in it. Inside another one it is part of that."""
        with self._lock:
            if self._depth == 0:
                self._rows.execute("BEGIN IMMEDIATE")
            self._depth += 1
            try:
                yield
            except BaseException:
                self._depth -= 1
                if self._depth == 0:
                    self._rows.execute("ROLLBACK")
                raise
            self._depth -= 1
            if self._depth == 0:
                self._rows.execute("COMMIT")

    def close(self) -> None:
        with self._lock:
            self._rows.close()
            os.close(self._handle)

    def _execute(self, sql: str, values: tuple[Any, ...]) -> tuple[list[tuple[Any, ...]], int]:
        with self._lock:
            cursor = self._rows.execute(sql, values)
            return cursor.fetchall(), cursor.rowcount


class Table(Generic[V]):
    """Keys are strings, in the order of their code points; the caller chooses them, e.g. full resource names."""

    def __init__(self, state: State, kind: str, dump: Callable[[V], bytes], load: Callable[[bytes], V]) -> None:
        self._state = state
        self._kind = kind
        self._dump = dump
        self._load = load

    def get(self, key: str) -> V | None:
        rows, _ = self._state._execute("SELECT value FROM rows WHERE kind = ? AND key = ?", (self._kind, key))
        return self._load(rows[0][0]) if rows else None

    def put(self, key: str, value: V) -> None:
        """Write, or replace."""
        self._state._execute("REPLACE INTO rows VALUES (?, ?, ?)", (self._kind, key, self._dump(value)))

    def create(self, key: str, value: V) -> bool:
        """Write unless the key is there; False where it is."""
        sql = "INSERT INTO rows VALUES (?, ?, ?) ON CONFLICT DO NOTHING"
        _, written = self._state._execute(sql, (self._kind, key, self._dump(value)))
        return written == 1

    def delete(self, key: str) -> bool:
        """False where there was none."""
        _, deleted = self._state._execute("DELETE FROM rows WHERE kind = ? AND key = ?", (self._kind, key))
        return deleted == 1

    def list(self, prefix: str = "", *, after: str = "", limit: int | None = None) -> list[tuple[str, V]]:
        """(key, value) of the keys that begin with `prefix` and come after `after`, at most `limit`, sorted."""
        sql = "SELECT key, value FROM rows WHERE kind = ? AND key >= ? AND key < ? AND key > ? ORDER BY key LIMIT ?"
        bounds = (prefix, prefix + _HIGHEST, after, -1 if limit is None else limit)
        rows, _ = self._state._execute(sql, (self._kind, *bounds))
        return [(key, self._load(value)) for key, value in rows]


class Blobs:
    """Files by key (letters, digits, `.`, `_`, `-`). One is there whole or not at all."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._unfinished = folder / "unfinished"
        self._unfinished.mkdir(parents=True, exist_ok=True)

    def new(self) -> Path:
        """A new, empty file to write to; `keep` makes it a blob. It survives a restart, under the same name."""
        path = self._unfinished / secrets.token_hex(16)
        path.touch(exist_ok=False)
        return path

    def unfinished(self, name: str) -> Path:
        """The file that `new` made, by its name."""
        return self._unfinished / _checked(name)

    def keep(self, written: Path, key: str) -> Path:
        """The file that `new` made is now the blob of this key, in the place of another of the same key."""
        return written.replace(self.path(key))

    def path(self, key: str) -> Path:
        """Where the blob lies, if it is there. ValueError for what is no key."""
        return self._folder / f"={_checked(key)}"

    def delete(self, key: str) -> None:
        """It need not be there. Who reads it just now reads it to the end."""
        self.path(key).unlink(missing_ok=True)


def _checked(key: str) -> str:
    if not _BLOB_KEY.fullmatch(key):
        raise ValueError(f"{key!r} is no key of a blob")
    return key


def _hold(folder: Path) -> int:
    """The lock lives as long as the process, whatever ends that."""
    handle = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(handle)
        raise FolderInUse(f"another gcp_emulator works in {folder}: stop that one, or give another --state") from error
    return handle
