"""Samples: every deployment.yaml that we ship loads, tells editors where the schema is, and says what it shows."""

from __future__ import annotations

from pathlib import Path

import pytest

from cloud_manager import deployment_yaml

SAMPLES = Path(__file__).parents[2] / "samples"
FILES = sorted(SAMPLES.rglob("deployment*.yaml"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SAMPLES)))
def test_every_sample_loads_and_is_linked_to_the_schema(path: Path) -> None:
    loaded = deployment_yaml.load(path)
    head = path.read_text().splitlines()[:2]
    assert any(line.startswith("# yaml-language-server: $schema=") and line.endswith("/api/v1/schema") for line in head)
    assert all(line.startswith("# ") for line in head)
    assert loaded.origins["deploy.type"]


def test_each_kind_of_target_has_a_sample() -> None:
    types = {deployment_yaml.load(path).spec.deploy.type for path in FILES}
    assert {"local", "docker", "gcp-cloudrun", "aws-ecs", "k8s"} <= types
