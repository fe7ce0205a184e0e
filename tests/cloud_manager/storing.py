"""What the tests of the store have in common."""

from __future__ import annotations

from dataclasses import replace

from cloud_manager.deployment import Deployment, Facts, Key, Phase
from cloud_manager.deployment_spec import Deploy, DeploymentSpec, LoadedSpec

KEY = Key("7", "42")


def loaded(service: str = "hello", *notes: str) -> LoadedSpec:
    spec = DeploymentSpec(deploy=Deploy(type="local", service_name=service, env={"GREETING": "안녕"}))
    return LoadedSpec(spec, notes, {"deploy.type": "deployment.yaml:3:5"})


def moved(row: Deployment, phase: Phase, *, due: float = 500.0, tries: int = 0, url: str | None = None) -> Deployment:
    return replace(row, phase=phase, due=due, tries=tries, facts=Facts(url=url))
