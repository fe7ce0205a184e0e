"""Two managers over one PostgreSQL: one dies, the other goes on."""

from __future__ import annotations

import time
from pathlib import Path

import psycopg

from tests.integration.stack import HELLO, running, until


def test_the_other_takes_over_within_two_seconds(tmp_path: Path, postgres_url: str) -> None:
    """Otherwise a second replica is no help when the first one dies."""
    with running(tmp_path, database_url=postgres_url, managers=2) as stack:
        stack.project(program="import time; time.sleep(6)\n" + HELLO)
        stack.begin(manager="manager")
        stack.wait("preparing", manager="manager2")
        stack.kill("manager")
        died, seen = time.monotonic(), claims(postgres_url)
        until("the next claim", lambda: claims(postgres_url) > seen, timeout=10)
        assert time.monotonic() - died < 2
        stack.project(project="43", text="second")
        stack.begin(project="43", manager="manager2")
        stack.wait("running", manager="manager2")
        stack.wait("running", project="43", manager="manager2")
        assert len(stack.programs()) == 1
        assert len(stack.programs(project="43")) == 1
        for project in ("42", "43"):
            stack.get("/stop", project=project, manager="manager2")
            stack.wait("stopped", project=project, manager="manager2")


def test_a_wish_given_to_one_is_seen_by_both(tmp_path: Path, postgres_url: str) -> None:
    """Otherwise the answer depends on which replica is asked."""
    with running(tmp_path, database_url=postgres_url, managers=2) as stack:
        stack.project(text="shared")
        stack.begin(manager="manager")
        for manager in stack.managers:
            stack.wait("running", manager=manager)
        assert len(stack.programs()) == 1
        stack.get("/stop", manager="manager2")
        for manager in stack.managers:
            stack.wait("stopped", manager=manager)
        assert stack.programs() == []


def claims(url: str) -> int:
    """How often the project 7/42 was claimed so far: each claim by a manager raises its token."""
    with psycopg.connect(url) as database:
        row = database.execute("select token from deployments where project_id = '42'").fetchone()
    return int(row[0]) if row else 0
