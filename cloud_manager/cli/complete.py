"""What the shell offers for USER and PROJECT: what the manager knows. A manager that does not answer offers nothing."""

from __future__ import annotations

import typer

from cloud_manager.cli.client import Json, Manager
from cloud_manager.cli.options import own_token
from cloud_manager.errors import DeployError
from cloud_manager.settings import ClientSettings

_PATIENCE = 2.0
"""Seconds; somebody waits with a finger on the Tab key."""


def users(incomplete: str) -> list[str]:
    return sorted({row["user_id"] for row in _known() if row["user_id"].startswith(incomplete)})


def projects(context: typer.Context, incomplete: str) -> list[tuple[str, str]]:
    """Each with its status, which shells show beside it."""
    user = context.params.get("user")
    rows = [row for row in _known() if row["user_id"] == user and row["project_id"].startswith(incomplete)]
    return [(row["project_id"], row["phase"]) for row in rows]


def _known() -> list[Json]:
    try:
        with Manager(ClientSettings().cloud_manager_url, own_token(), patience=_PATIENCE) as manager:
            return manager.deployments()
    except DeployError:
        return []
