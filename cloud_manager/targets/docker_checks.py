"""What the `docker` target refuses before anything is built. Pure."""

from __future__ import annotations

import re

from cloud_manager.deployment_spec import DataVolume, DeploymentSpec
from image_builder.contract import Platform, Problem

_SMALLEST_MEMORY = 6
"""MiB: https://docs.docker.com/engine/containers/resource_constraints/"""
_HOST = re.compile(r"[A-Za-z0-9][A-Za-z0-9.:-]{0,252}")
_NFS_PATH = re.compile(r"/[A-Za-z0-9._/+@-]{0,1023}")
_MOUNT = re.compile(r"(/[A-Za-z0-9._+@-]+)+")
_OWN = ("/proc", "/sys", "/dev", "/etc", "/run/secrets", "/run/cloud-deploy")
"""What the Engine and we put into a container; nothing is mounted over it."""


def problems_of(
    spec: DeploymentSpec, *, secrets: bool, platform: Platform, missing: str | None = None
) -> list[Problem]:
    """What of `spec` cannot be done on an Engine.

    Args:
        secrets: whether a folder of secrets is set.
        platform: what the Engine runs.
        missing: the Engine's socket, if it is not there.
    """
    deploy, memory = spec.deploy, spec.deploy.resources.memory
    host = deploy.network.service_host_ip
    rows = [
        (
            missing is not None,
            f"deploy.type docker: there is no Docker Engine here, no socket {missing}",
            "start it, give the manager its socket (in a container: mount it), or set DOCKER_HOST",
        ),
        *(_volume_problem(index, volume) for index, volume in enumerate(deploy.data)),
        (
            bool(deploy.secrets) and not secrets,
            "deploy.secrets: no folder of secrets is set for docker",
            "set SECRETS_DIR to a folder with one file per secret",
        ),
        (
            memory is not None and memory < _SMALLEST_MEMORY,
            f"deploy.resources.memory: {memory} MiB is less than a container needs",
            "ask for more, e.g. 512Mi",
        ),
        (
            host is not None and not _HOST.fullmatch(host.strip("[]")),
            f"deploy.network.service_host_ip: {host!r} is no address",
            "write an address of the Engine's machine, or leave the key out",
        ),
        (
            spec.prebuilt and bool(deploy.pre_exec),
            "deploy.pre_exec: commands before the start need an image that is built here",
            "add build.components, or let the image's own entrypoint run them",
        ),
        (
            # The other way round it is what TANGO's tools write of every file (`x86`): the Engine's own serves.
            (spec.build.architecture, platform) == ("linux/arm64", "linux/amd64") and not spec.prebuilt,
            f"build.architecture: {spec.build.architecture}, but the Docker Engine runs {platform}",
            "leave the key out, or deploy to an Engine of that architecture (DOCKER_HOST)",
        ),
    ]
    return [Problem(code="unsupported_by_target", cause=cause, fix=fix) for wrong, cause, fix in rows if wrong]


def _volume_problem(index: int, volume: DataVolume) -> tuple[bool, str, str]:
    where = f"deploy.data[{index}]"
    if volume.bucket is not None:
        return True, f"{where}.bucket: docker mounts no buckets", "use nfs_ip and nfs_path, or deploy to gcp-cloudrun"
    if not _HOST.fullmatch(volume.nfs_ip or "") or not _NFS_PATH.fullmatch(volume.nfs_path or ""):
        wrong = f"{where}: {volume.nfs_ip}:{volume.nfs_path} is no NFS export"
        return True, wrong, "write nfs_ip: the server's address, and nfs_path: its absolute path, of plain characters"
    taken = any(f"{volume.mount}/".startswith(f"{own}/") for own in _OWN)
    if taken or not _MOUNT.fullmatch(volume.mount) or "/../" in f"{volume.mount}/" or "/./" in f"{volume.mount}/":
        return True, f"{where}.mount: nothing can be mounted at {volume.mount}", "choose a folder such as /data"
    return False, "", ""
