"""What is asked of Google Cloud Build, and what its end means. Pure.

https://cloud.google.com/build/docs/api/reference/rest/v1/projects.builds
"""

from __future__ import annotations

import hashlib
import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass
from typing import Any

from image_builder.engines import apt
from image_builder.engines.apt import SystemPackage
from image_builder.engines.context import DOCKERFILE, Context
from image_builder.engines.engine import dockerfile_failed
from image_builder.errors import BuildError

NAME = "cloud-build"
PLATFORM = "linux/amd64"
"""Of the machines that builds run on."""

_FORMAT = 1
_BUILDER = "gcr.io/cloud-builders/docker"
_SECONDS = 7200
_AGAIN = ("INTERNAL_ERROR", "EXPIRED")
_LINES_BEFORE = ("starting build", "FETCHSOURCE", "Fetching storage object", "Copying gs://", "BUILD", "Already have")


@dataclass(frozen=True, slots=True)
class Place:
    """Where builds are made. bucket: for sources and logs. repository: of Artifact Registry, in the region."""

    project: str
    region: str
    bucket: str
    repository: str = "cloud-deploy"

    @property
    def images(self) -> str:
        return f"{self.region}-docker.pkg.dev/{self.project}/{self.repository}/cloud-deploy-builds"


def place_of(environ: Mapping[str, str]) -> Place | str:
    """Where, or the names of what must be set for that."""
    project = environ.get("GCP_PROJECT") or environ.get("GOOGLE_CLOUD_PROJECT") or ""
    region, bucket = environ.get("GCP_REGION") or "", environ.get("CLOUD_BUILD_BUCKET") or ""
    asked = {"GCP_PROJECT": project, "GCP_REGION": region, "CLOUD_BUILD_BUCKET": bucket}
    if missing := [name for name, value in asked.items() if not value]:
        return ", ".join(missing)
    return Place(project, region, bucket, environ.get("ARTIFACT_REPOSITORY") or "cloud-deploy")


def source_key(context: Context) -> str:
    """64 hex digits over all that is in it, known without reading a file."""
    rows = [_FORMAT, *(astuple(file) for file in context.files)]
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()


def text_key(dockerfile: str) -> str:
    """The same for a context that is a Dockerfile alone."""
    return hashlib.sha256(f"{_FORMAT} {dockerfile}".encode()).hexdigest()


def source_object(key: str) -> str:
    """Its name says what is in it: what is there need not be sent."""
    return f"cloud-deploy/{key}.tar.gz"


def log_folder(place: Place) -> str:
    """In our own bucket: whoever may read that one needs no further right to read the log."""
    return f"gs://{place.bucket}/cloud-deploy-logs"


def log_object(build: str) -> str:
    return f"cloud-deploy-logs/log-{build}.txt"


def request(place: Place, source: str, generation: int, run: str) -> dict[str, Any]:
    """Of CreateBuild: build the source's Dockerfile and push it.

    run: the id by which the build, should its answer be lost, is found again.
    """
    image = image_of(place, run)
    return {
        "project_id": place.project,
        "build": {
            "source": {"storage_source": {"bucket": place.bucket, "object_": source, "generation": generation}},
            "steps": [{"name": _BUILDER, "args": ["build", "-t", image, "-f", DOCKERFILE, "."]}],
            "images": [image],
            "logs_bucket": log_folder(place),
            "options": {"logging": "GCS_ONLY"},
            "timeout": {"seconds": _SECONDS},
            "tags": [tag_of(run)],
        },
    }


def image_of(place: Place, run: str) -> str:
    return f"{place.images}:{run}"


def tag_of(run: str) -> str:
    return f"cloud-deploy-{run}"


def packages_dockerfile(base: str, packages: Sequence[SystemPackage]) -> str:
    """The base with the packages on it, as one layer. base: by digest, where Cloud Build can read it."""
    told = apt.environment({}, ca=False)
    exported = "export " + " ".join(f"{name}={shlex.quote(value)}" for name, value in sorted(told.items()))
    policy = f"printf {shlex.quote(apt.POLICY.decode())} > {apt.POLICY_FILE} && chmod 755 {apt.POLICY_FILE}"
    commands = [shlex.join(argv) for argv in apt.commands(packages, ca=False)]
    return f"FROM {base}\nUSER 0\nRUN " + " && ".join([exported, policy.replace("\n", "\\n"), *commands]) + "\n"


def tail_of(log: str) -> list[str]:
    """What the step itself wrote, without Cloud Build's own words."""
    lines = [line.rstrip() for line in log.splitlines() if line.strip()]
    return [line for line in lines if not line.startswith((*_LINES_BEFORE, "ERROR")) and line != "PUSH"]


def failed(place: Place, status: str, detail: str, kind: str, log: str) -> BuildError:
    """The error for a build that did not succeed.

    Args:
        status, kind: names of `Build.Status` and `Build.FailureInfo.FailureType`.
    """
    if kind.startswith("PUSH"):
        return BuildError(
            f"Cloud Build made the image, but cannot push it to {place.images}: {detail}",
            f"Make the repository (gcloud artifacts repositories create {place.repository} --repository-format=docker "
            f"--location={place.region} --project={place.project}), and let the build's service account write to it "
            "(roles/artifactregistry.writer).",
            code="cloud_build_push",
        )
    if status == "FAILURE" and kind == "USER_BUILD_STEP":
        return dockerfile_failed(NAME, detail, tail_of(log))
    words = "somebody cancelled it in the project" if status == "CANCELLED" else f"it ended with {status}, {detail}"
    fix = f"The log is in {log_folder(place)}; the builds of {place.project} in Google's console say more."
    return BuildError(
        f"Cloud Build did not finish the build: {words}", fix, code="engine_failed", retryable=status in _AGAIN
    )
