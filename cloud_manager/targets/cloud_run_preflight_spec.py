"""What is asked of Google before anything is spent: which APIs, permissions, quotas, and the commands that mend. Pure.

The permissions are those of the calls that `cloud_run_cloud.py` and the builder's `cloud_build_google.py` make:
https://cloud.google.com/run/docs/reference/iam/permissions, https://cloud.google.com/build/docs/iam-roles-permissions
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cloud_manager.deployment_spec import DeploymentSpec
from cloud_manager.targets.cloud_run_place import Place
from cloud_manager.targets.cloud_run_sizes import gpu_of, sizes_of

RUN = (
    "run.services.list",
    "run.services.get",
    "run.services.create",
    "run.services.update",
    "run.services.delete",
    "run.revisions.list",
)
PUBLIC = "run.services.setIamPolicy"
"""Also to switch the invoker check off: https://cloud.google.com/run/docs/authenticating/public#required_roles"""
LOGGING = ("logging.logEntries.list",)
CLOUD_BUILD = (
    "cloudbuild.builds.create",
    "cloudbuild.builds.get",
    "cloudbuild.builds.list",
    "cloudbuild.builds.update",
)
PUBLISHING = ("artifactregistry.repositories.downloadArtifacts", "artifactregistry.repositories.uploadArtifacts")
SOURCES = ("storage.objects.create", "storage.objects.get")
ACT_AS = "iam.serviceAccounts.actAs"

_ROLES = (
    (PUBLIC, "roles/run.admin"),
    ("run.", "roles/run.developer"),
    ("logging.", "roles/logging.viewer"),
    ("cloudbuild.", "roles/cloudbuild.builds.editor"),
    ("serviceusage.", "roles/serviceusage.serviceUsageViewer"),
    ("resourcemanager.projects.getIamPolicy", "roles/iam.securityReviewer"),
    ("resourcemanager.", "roles/browser"),
    ("artifactregistry.", "roles/artifactregistry.reader"),
    ("secretmanager.secrets.getIamPolicy", "roles/iam.securityReviewer"),
    ("secretmanager.", "roles/secretmanager.viewer"),
    ("iam.", "roles/iam.serviceAccountViewer"),
    ("storage.", "roles/storage.bucketViewer"),
)
SECRET_READERS = frozenset(("roles/secretmanager.secretAccessor", "roles/secretmanager.admin", "roles/owner"))

# https://cloud.google.com/run/docs/configuring/services/gpu#supported-regions, as of November 2026
GPU_REGIONS: Mapping[str, tuple[str, ...]] = {
    "nvidia-l4": ("asia-south1", "asia-southeast1", "europe-west1", "europe-west4", "us-central1", "us-east4"),
    "nvidia-rtx-pro-6000": ("asia-southeast1", "europe-west4", "us-central1"),
}
GRANTED_AT_FIRST = {"nvidia-l4": 3}
"""GPUs that a project gets with its first deployment in a region: until then, the quota says none."""
_THOUSANDTHS = frozenset(("nvidia-rtx-pro-6000",))
"""GPUs whose quota is counted in thousandths."""
_QUOTA_IDS = {"nvidia-l4": "NvidiaL4Gpu", "nvidia-rtx-pro-6000": "NvidiaRtxPro6000Gpu"}
_HOST = re.compile(r"([a-z0-9-]+)-docker\.pkg\.dev/([^/]+)/([^/]+)/.+")


@dataclass(frozen=True, slots=True)
class Repository:
    """Of Artifact Registry, where images are published."""

    project: str
    location: str
    name: str

    @property
    def resource(self) -> str:
        return f"projects/{self.project}/locations/{self.location}/repositories/{self.name}"


def gcloud(*words: str) -> str:
    """A command, quoted for a shell."""
    return shlex.join(["gcloud", *words])


def uses_cloud_build(spec: DeploymentSpec | None, bucket: str) -> bool:
    """Whether builds may be made there. bucket: CLOUD_BUILD_BUCKET as the manager knows it."""
    if spec is None:
        return bool(bucket)
    packages = spec.build.components.custom_packages.apt if spec.build.components else ()
    return spec.build.engine == "cloud-build" or bool(bucket and packages and spec.build.engine is None)


def apis(spec: DeploymentSpec | None, *, cloud_build: bool) -> tuple[str, ...]:
    names = ["run", "logging"]
    if spec is None or not spec.prebuilt:
        names.append("artifactregistry")
    if cloud_build:
        names.append("cloudbuild")
    if cloud_build or (spec is not None and any(volume.bucket for volume in spec.deploy.data)):
        names.append("storage")
    if spec is not None and spec.deploy.secrets:
        names.append("secretmanager")
    return tuple(f"{name}.googleapis.com" for name in names)


def permissions(spec: DeploymentSpec | None, *, cloud_build: bool) -> tuple[str, ...]:
    """Those that are held on the project: a service is not there yet when it is created."""
    public = (PUBLIC,) if spec is not None and spec.deploy.public else ()
    return (*RUN, *public, *LOGGING, *(CLOUD_BUILD if cloud_build else ()))


def roles_for(missing: Iterable[str]) -> tuple[str, ...]:
    """The least roles that hold them; Cloud Run's administrator is its developer, too."""
    found = dict.fromkeys(role_for(permission) for permission in missing)
    if "roles/run.admin" in found:
        found.pop("roles/run.developer", None)
    return tuple(found)


def role_for(permission: str) -> str:
    """The role that is granted where this one is missing."""
    return next((role for prefix, role in _ROLES if permission.startswith(prefix)), "roles/viewer")


def repository_of(spec: DeploymentSpec | None, place: Place) -> Repository | None:
    """Where what is built is published; None where that is no repository of Artifact Registry's."""
    if spec is None or not spec.build.image_uri:
        region = place.region_of(spec) if spec is not None else place.region
        return Repository(place.project, region, place.repository)
    found = _HOST.fullmatch(spec.build.image_uri)
    return Repository(found[2], found[1], found[3]) if found else None


def secrets_of(spec: DeploymentSpec | None) -> dict[str, str]:
    """(secret -> version) of each that the file names, once for each pair: `name:version` -> both."""
    rows: dict[str, str] = {}
    for written in spec.deploy.secrets.values() if spec is not None else ():
        name, _, version = written.partition(":")
        rows[written] = f"{name}/versions/{version or 'latest'}"
    return rows


# -- quotas --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Need:
    """metric: of run.googleapis.com. each: of one instance, in the unit of the quota. said: that of one, for people."""

    metric: str
    quota_id: str
    each: int
    instances: int
    said: str
    gpu: str | None = None

    @property
    def total(self) -> int:
        return self.each * self.instances


def needs_of(spec: DeploymentSpec) -> tuple[Need, ...]:
    """A quota is held against the most instances times their size."""
    sizes, scaling = sizes_of(spec), spec.deploy.scaling
    most = scaling.max_instances or max(1, scaling.min_instances or 0)
    cpu = Need("cpu_allocation", "CpuAllocPerProjectRegion", round(sizes.cpu * 1000), most, f"{sizes.cpu:g} CPU")
    memory = Need("mem_allocation", "MemAllocPerProjectRegion", sizes.memory << 20, most, sizes.limits["memory"])
    gpu = gpu_of(spec)
    if gpu is None or gpu not in GPU_REGIONS:
        return cpu, memory
    metric = f"{gpu.replace('-', '_')}_gpu_allocation_no_zonal_redundancy"
    quota_id = f"{_QUOTA_IDS[gpu]}AllocNoZonalRedundancyPerProjectRegion"
    each = 1000 if gpu in _THOUSANDTHS else 1
    return Need(metric, quota_id, each, most, f"1 {gpu}", gpu), cpu, memory


def limit_of(metrics: Sequence[Mapping[str, Any]], metric: str, region: str) -> int | None:
    """What a region grants; -1: no limit; None: Google does not say.

    https://cloud.google.com/service-usage/docs/reference/rest/v1beta1/services.consumerQuotaMetrics
    """
    limits = [limit for one in metrics if one.get("metric") == f"run.googleapis.com/{metric}" for limit in _limits(one)]
    for limit in limits:
        buckets = limit.get("quotaBuckets") or []
        own = [one for one in buckets if (one.get("dimensions") or {}).get("region") == region]
        for bucket in own or [one for one in buckets if not one.get("dimensions")]:
            return int(bucket.get("effectiveLimit", 0))
    return None


def _limits(metric: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    for limit in metric.get("consumerQuotaLimits") or ():
        if "{region}" in limit.get("unit", ""):
            yield limit


def fits(need: Need, limit: int) -> bool:
    at_first = GRANTED_AT_FIRST.get(need.gpu or "", 0) * need.each if limit == 0 else 0
    return limit < 0 or need.total <= max(limit, at_first)


def more_quota(need: Need, project: str, region: str) -> str:
    """The command that asks for it."""
    return gcloud(
        "beta", "quotas", "preferences", "create", "--service=run.googleapis.com", f"--project={project}",
        f"--quota-id={need.quota_id}", f"--preferred-value={need.total}", f"--dimensions=region={region}",
    )  # fmt: skip
