"""The log lines of a project's service, from the target that its file names."""

from __future__ import annotations

from collections.abc import AsyncIterator

from cloud_manager.deployment import Deployment
from cloud_manager.errors import NotFound
from cloud_manager.routes.parts import Collaborators


def log_lines(parts: Collaborators, row: Deployment, *, tail: int, follow: bool) -> AsyncIterator[str]:
    """Lines without their newline.

    Raises:
        NotFound: the project never got as far as a target.
    """
    if row.spec is None:
        raise NotFound(f"project {row.key} has no service", "Start it with a deployment.yaml first")
    return parts.targets.get(row.spec.deploy.type).logs(row.key, tail=tail, follow=follow)
