"""What the `gcp-cloudrun` target refuses before anything is built, in words for the person who wrote it. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator

from cloud_manager.deployment_spec import DataVolume, DeploymentSpec
from cloud_manager.targets.cloud_run_place import Place
from cloud_manager.targets.cloud_run_sizes import Row, size_problems
from image_builder.contract import Problem

LONGEST_STARTUP = 240
"""Seconds: https://cloud.google.com/run/docs/configuring/healthchecks"""
_REGION = re.compile(r"[a-z]+(-[a-z]+)+\d+")
_ACCOUNT = re.compile(r"[A-Za-z0-9._-]+@[A-Za-z0-9.-]+")
# https://cloud.google.com/storage/docs/buckets#naming
_BUCKET = re.compile(r"[a-z0-9][a-z0-9._-]{1,220}[a-z0-9]")
_MOUNT = re.compile(r"(/[A-Za-z0-9._+@-]+)+")
_SYSTEM = ("/dev", "/proc", "/sys", "/cloudsql")
# https://cloud.google.com/run/docs/deploying#images
_PULLED_FROM = re.compile(r"[a-z0-9-]+-docker\.pkg\.dev|([a-z]+\.)?gcr\.io|docker\.io")
_GOOGLES_OWN = ("us-docker.pkg.dev/cloudrun/", "gcr.io/cloudrun/", "gcr.io/google-samples/")
_RESERVED = frozenset(("K_SERVICE", "K_REVISION", "K_CONFIGURATION"))


NOT_INSTALLED = (
    "deploy.type gcp-cloudrun: the manager lacks Google's packages",
    "pip install 'tango-cloud-deploy[gcp]' where the manager runs, and start it anew",
)
"""(cause, fix)"""


def problems_of(spec: DeploymentSpec, place: Place, *, installed: bool = True) -> list[Problem]:
    """What of `spec` Cloud Run cannot do, or nobody can do from here."""
    rows: tuple[Row, ...] = (
        (not installed, *NOT_INSTALLED),
        *_place(spec, place),
        *_image(spec),
        *size_problems(spec),
        *_health(spec),
        *_variables(spec),
        *(_volume(index, volume) for index, volume in enumerate(spec.deploy.data)),
    )
    return [Problem(code="unsupported_by_target", cause=cause, fix=fix) for wrong, cause, fix in rows if wrong]


def _place(spec: DeploymentSpec, place: Place) -> Iterator[Row]:
    region, account = place.region_of(spec), spec.deploy.service_account
    allowed = ", ".join(place.regions)
    yield (
        not place.project,
        "deploy.type gcp-cloudrun: no Google Cloud project is set",
        "set GCP_PROJECT for the manager (gcloud projects list shows yours)",
    )
    yield (
        not region,
        "deploy.region: no region is named, here or in GCP_REGION",
        "write e.g. region: asia-northeast3, or set GCP_REGION for the manager",
    )
    yield bool(region) and not _REGION.fullmatch(region), f"deploy.region: {region} is no region", "write e.g. us-west1"
    yield (
        bool(region) and region not in place.regions,
        f"deploy.region: this manager does not look after {region}, only after {allowed or 'no region'}",
        f"add it to GCP_REGIONS of the manager{f', or write one of: {allowed}' if allowed else ''}",
    )
    yield (
        account is not None and not _ACCOUNT.fullmatch(account),
        f"deploy.service_account: {account} is no address of an account",
        f"write its e-mail address, e.g. NAME@{place.project or 'PROJECT'}.iam.gserviceaccount.com",
    )


def _image(spec: DeploymentSpec) -> Iterator[Row]:
    uri = spec.build.image_uri or ""
    host = _registry(uri)
    yield (
        bool(uri) and not _PULLED_FROM.fullmatch(host),
        f"build.image_uri: Cloud Run cannot pull from {host}",
        "use Artifact Registry (REGION-docker.pkg.dev/PROJECT/REPOSITORY/NAME), or leave image_uri out for ours"
        if not spec.prebuilt
        else "copy the image to Artifact Registry: REGION-docker.pkg.dev/PROJECT/REPOSITORY/NAME",
    )
    yield (
        uri.startswith(_GOOGLES_OWN) and not spec.prebuilt,
        f"build.image_uri: {uri} is Google's own; what is built here cannot be published there",
        "leave image_uri out, or leave build.components out to run that image as it is",
    )
    yield (
        spec.build.architecture != "linux/amd64" and not spec.prebuilt,
        f"build.architecture: Cloud Run runs linux/amd64, not {spec.build.architecture}",
        "write linux/amd64, or leave the key out",
    )
    yield (
        spec.prebuilt and bool(spec.deploy.pre_exec),
        "deploy.pre_exec: commands before the start need an image that is built here",
        "add build.components, or let the image's own entrypoint run them",
    )


def _registry(uri: str) -> str:
    """https://github.com/distribution/reference/blob/main/reference.go"""
    first, slash, _ = uri.partition("/")
    return first if slash and (first == "localhost" or any(sign in first for sign in ".:")) else "docker.io"


def _health(spec: DeploymentSpec) -> Iterator[Row]:
    health = spec.deploy.health
    yield (
        health.startup_seconds > LONGEST_STARTUP,
        f"deploy.health.startup_seconds: Cloud Run waits at most {LONGEST_STARTUP} s, not {health.startup_seconds}",
        f"write {LONGEST_STARTUP} or less, and load what is slow after the program listens",
    )
    yield (
        health.path != "/" and health.timeout_seconds > health.period_seconds,
        f"deploy.health.timeout_seconds: {health.timeout_seconds} is more than period_seconds, {health.period_seconds}",
        "write a timeout that is not longer than the period",
    )


def _variables(spec: DeploymentSpec) -> Iterator[Row]:
    names = sorted(_RESERVED & {*spec.deploy.env, *spec.deploy.secrets})
    yield bool(names), f"deploy.env: {', '.join(names)} is set by Cloud Run itself", "choose another name"
    for name, secret in spec.deploy.secrets.items():
        yield (
            "." in secret.partition(":")[0],
            f"deploy.secrets.{name}: {secret} is no name of Secret Manager's",
            "use letters, digits, _ and -; gcloud secrets list shows yours",
        )


def _volume(index: int, volume: DataVolume) -> Row:
    where, nfs = f"deploy.data[{index}]", (volume.nfs_ip, volume.nfs_path)
    if (volume.bucket is None) != all(nfs) or (volume.bucket is not None and any(nfs)):
        return True, f"{where}: neither a bucket nor an NFS export", "write bucket, or nfs_ip and nfs_path"
    if volume.bucket is not None and not _BUCKET.fullmatch(volume.bucket):
        return True, f"{where}.bucket: {volume.bucket!r} is no name of a bucket", "write its name alone, without gs://"
    if volume.nfs_path is not None and not volume.nfs_path.startswith("/"):
        return True, f"{where}.nfs_path: {volume.nfs_path!r} is not absolute", "write it as the server exports it"
    taken = any(f"{volume.mount}/".startswith(f"{own}/") for own in _SYSTEM)
    if taken or not _MOUNT.fullmatch(volume.mount) or "/../" in f"{volume.mount}/" or "/./" in f"{volume.mount}/":
        return True, f"{where}.mount: nothing can be mounted at {volume.mount}", "choose a folder such as /data"
    return False, "", ""
