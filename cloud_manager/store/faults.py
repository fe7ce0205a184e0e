"""What a database driver reports, in the manager's own errors. Never a password: the server is named by its place."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy.exc import DBAPIError, InterfaceError, InternalError, OperationalError, TimeoutError

from cloud_manager.errors import Unavailable

_INSUFFICIENT_PRIVILEGE = "42501"
_DISK_FULL = "53100"  # https://www.postgresql.org/docs/current/errcodes-appendix.html
_SQLITE_DISK_FULL = "SQLITE_FULL"  # https://sqlite.org/rescode.html
_SQLITE_DAMAGED = ("SQLITE_CORRUPT", "SQLITE_NOTADB")


@contextmanager
def translated(place: str) -> Iterator[None]:
    """Raise `Unavailable` for what the database refuses; what only a mistake of ours can cause passes unchanged.

    Args:
        place: names the database to people, e.g. `PostgreSQL at db:5432/tango`.
    """
    try:
        yield
    except TimeoutError as error:
        cause = f"{place} is too slow: no connection became free"
        raise Unavailable(cause, "look at the load of the database") from error
    except DBAPIError as error:
        found = unavailable(place, error)
        if found is None:
            raise
        raise found from error


def unavailable(place: str, error: DBAPIError) -> Unavailable | None:
    """The error for people, None if the statement itself is at fault."""
    code = str(getattr(error.orig, "sqlite_errorname", "") or getattr(error.orig, "sqlstate", "") or "")
    if code in (_DISK_FULL, _SQLITE_DISK_FULL):
        return Unavailable(f"no space is left for {place}", "free some disk space", code="disk_full")
    if code.startswith(_SQLITE_DAMAGED):
        fix = "restore the file from a copy, or move it away to begin anew"
        return Unavailable(f"{place} is damaged: {_reason(error)}", fix, code="damaged_database", retryable=False)
    refused = isinstance(error, (OperationalError, InterfaceError, InternalError))
    if not refused and code != _INSUFFICIENT_PRIVILEGE:
        return None
    fix = "check that the database runs and that DATABASE_URL names the right place, user and password"
    if place.startswith("SQLite"):
        fix = "check that STATE_DIR can be written, is on a local disk, and that no other program holds the file"
    return Unavailable(f"{place} does not answer: {_reason(error)}", fix)


def _reason(error: DBAPIError) -> str:
    lines = [line.strip() for line in str(error.orig).splitlines() if line.strip()]
    return lines[0] if lines else type(error.orig).__name__
