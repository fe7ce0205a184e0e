"""Where on Google Cloud this installation's services are: project, regions, repository. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from cloud_manager.deployment import Key
from cloud_manager.deployment_spec import DeploymentSpec
from cloud_manager.names import DEFAULT_OWNER, service_id


@dataclass(frozen=True, slots=True)
class Place:
    """region: where a file names none; more_regions: what it may name besides. repository, network: their names.

    owner: the name of this installation.
    """

    project: str
    region: str
    more_regions: tuple[str, ...] = ()
    repository: str = "cloud-deploy"
    network: str = "default"
    owner: str = DEFAULT_OWNER

    @property
    def regions(self) -> tuple[str, ...]:
        """All that services of ours can be in."""
        return tuple(dict.fromkeys(region for region in (self.region, *self.more_regions) if region))

    def region_of(self, spec: DeploymentSpec) -> str:
        return spec.deploy.region or self.region

    def parent(self, region: str) -> str:
        return f"projects/{self.project}/locations/{region}"

    def service(self, key: Key, spec: DeploymentSpec) -> str:
        """Full name of a project's service."""
        return f"{self.parent(self.region_of(spec))}/services/{service_id(key, spec.deploy.service_name, self.owner)}"

    def images(self, spec: DeploymentSpec) -> str:
        """https://cloud.google.com/artifact-registry/docs/docker/names"""
        return f"{self.region_of(spec)}-docker.pkg.dev/{self.project}/{self.repository}"


def short(name: str) -> str:
    """The last part of a full name."""
    return name.rsplit("/", 1)[-1]


def region_in(name: str) -> str:
    """Of `projects/P/locations/R/…`."""
    return name.split("/")[3]
