"""What others do to a service that did run: which differences count, and whether they are left alone. Pure."""

from __future__ import annotations

from cloud_manager.deployment import Deployment, Phase
from cloud_manager.targets.target import Observation
from image_builder.contract import Problem

DRIFT = "drift"


def drift_of(revision: str, seen: Observation) -> tuple[str, ...]:
    """What of this was not done by us, given that `revision` did run; nothing where it died by itself."""
    if seen.drift:
        return seen.drift
    if seen.state == "absent":
        return ("it is gone",)
    if seen.state == "removing":
        return ("it is being deleted",)
    if seen.revision not in (None, revision):
        return (f"revision {seen.revision} is there instead of {revision}",)
    return ()


def problem_of(target: str, drift: tuple[str, ...]) -> Problem:
    cause = f"the service on {target} is not as it was deployed: {'; '.join(drift)}"
    return Problem(code=DRIFT, cause=cause, fix="Start the project to put it back, or write deploy.on_drift: heal")


def is_left_alone(row: Deployment) -> bool:
    """It did run for this very wish, and what others do to it since is theirs."""
    reports = row.spec is not None and row.spec.deploy.on_drift == "report"
    told = row.facts.problem is not None and row.facts.problem.code == DRIFT
    settled = row.facts.settled_generation == row.generation
    return reports and settled and (row.phase is not Phase.FAILED or told)
