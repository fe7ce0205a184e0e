"""A real PostgreSQL for the tests: started once, on a unix socket in a folder of its own, stopped by its pid."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import psycopg
import pytest

from tests import needs

_numbers = count(1)


def until(condition: Callable[[], bool], what: str, *, seconds: float = 20.0) -> None:
    """Wait for a condition of another process, looking 50 times a second."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            pytest.fail(f"waited {seconds} s for {what}")
        time.sleep(0.02)


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """URL of a running server, as a user who may do everything."""
    initdb, postgres = needs.program("initdb"), needs.program("postgres")
    # Not under pytest's folder: another user must reach it, and a socket's path may have about 100 characters.
    folder = Path(tempfile.mkdtemp(prefix="pg-", dir="/tmp"))
    user = _unprivileged(folder)
    data, log = folder / "data", (folder / "log").open("wb")
    options = {"cwd": folder, "stdout": log, "stderr": subprocess.STDOUT, **user}
    arguments = ["-U", "tester", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync", "-D", str(data)]
    subprocess.run([initdb, *arguments], check=True, **options)  # type: ignore[call-overload]
    lax = [f"-c{name}=off" for name in ("fsync", "synchronous_commit", "full_page_writes")]
    command = [postgres, "-D", str(data), "-k", str(folder), "-clisten_addresses=", "-cmax_connections=100", *lax]
    server = subprocess.Popen(command, **options)  # type: ignore[call-overload]
    url = f"postgresql://tester@/postgres?host={folder}"
    try:
        until(lambda: _answers(url), f"PostgreSQL to start: {(folder / 'log').read_text()}")
        yield url
    finally:
        server.send_signal(signal.SIGINT)  # "fast" shutdown: connections are closed
        server.wait(20)
        log.close()
        shutil.rmtree(folder)


@pytest.fixture
def postgres_database(postgres_url: str) -> str:
    """URL of a new, empty database."""
    name = f"test_{next(_numbers)}"
    administrate(postgres_url, f"CREATE DATABASE {name}")
    return postgres_url.replace("/postgres?", f"/{name}?")


def administrate(url: str, statement: str) -> list[tuple[object, ...]]:
    """Run one statement on a connection of its own; the rows, if there are any."""
    with psycopg.connect(url, autocommit=True) as connection, connection.cursor() as cursor:
        cursor.execute(statement.encode())
        return cursor.fetchall() if cursor.description else []


def _unprivileged(folder: Path) -> dict[str, object]:
    """The server refuses to run as root: then it runs as another user, who owns the folder."""
    if os.getuid() != 0:
        return {}
    names = {entry.pw_name for entry in pwd.getpwall()}
    user = pwd.getpwnam("postgres" if "postgres" in names else "nobody")
    os.chown(folder, user.pw_uid, user.pw_gid)
    return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}


def _answers(url: str) -> bool:
    try:
        psycopg.connect(url).close()
    except psycopg.OperationalError:
        return False
    return True
