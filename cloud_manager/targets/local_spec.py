"""What the `local` target decides, without touching anything: what it can run, with which argv, env and folder."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cloud_manager.deployment_spec import DeploymentSpec
from cloud_manager.errors import TargetError
from cloud_manager.targets.local_run import Report, Run, ServiceReport, Timing
from cloud_manager.targets.target import Observation, Wanted
from image_builder.contract import Platform, Problem

VENV = "/opt/venv"
DEFAULT_HOST = "127.0.0.1"
_PASSED_ON = re.compile(
    r"(HOME|LANG|LC_[A-Z]+|TZ|TMPDIR|SSL_CERT_FILE|SSL_CERT_DIR|REQUESTS_CA_BUNDLE|CURL_CA_BUNDLE"
    r"|(https?|no|all|ftp)_proxy)",
    re.IGNORECASE,
)
_PATH_LISTS = ("PATH", "PYTHONPATH", "LD_LIBRARY_PATH")
_SYSTEM_PATH = "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"
# https://cloud.google.com/secret-manager/docs/reference/rest/v1/projects.secrets/create (secretId)
_SECRET = re.compile(r"([A-Za-z0-9_-]{1,255})(:[A-Za-z0-9_-]{1,63})?")


@dataclass(frozen=True, slots=True)
class ImageConfig:
    """What the OCI configuration says of how to run: https://github.com/opencontainers/image-spec/blob/main/config.md"""

    argv: tuple[str, ...]
    env: dict[str, str]
    workdir: str

    @classmethod
    def parse(cls, value: Mapping[str, Any]) -> ImageConfig:
        config = value.get("config") or {}
        argv = (*(config.get("Entrypoint") or ()), *(config.get("Cmd") or ()))
        env = dict(line.split("=", 1) for line in config.get("Env") or () if "=" in line)
        return cls(argv, env, config.get("WorkingDir") or "/")


def machine_platform(system: str, machine: str) -> Platform:
    """`sys.platform` and `platform.machine()` in OCI words."""
    names: dict[tuple[str, str], Platform] = {
        ("linux", "x86_64"): "linux/amd64",
        ("linux", "aarch64"): "linux/arm64",
        ("darwin", "x86_64"): "darwin/amd64",
        ("darwin", "arm64"): "darwin/arm64",
    }
    try:
        return names[system, machine]
    except KeyError:
        raise TargetError(
            f"deploy.type local does not know this machine: {system} {machine}",
            "use Linux or macOS on x86-64 or arm64, or another deploy.type",
        ) from None


def choose_python(wish: str | None, own: str, there: Collection[str]) -> str:
    """Which python minor version serves.

    Raises:
        TargetError: the file asks for one that this machine lacks.
    """
    if wish is None or wish == own:
        return own
    if wish in there:
        return wish
    found = ", ".join(sorted({own, *there}, key=lambda version: int(version.split(".")[1])))
    raise TargetError(
        f"build.components.libs asks for python {wish}; this machine has {found}",
        f"install python{wish} on this machine, or write python=={own}",
        code="python_missing",
    )


def problems_of(spec: DeploymentSpec, *, addresses: Collection[str], secrets: bool) -> list[Problem]:
    """What of `spec` cannot be done here.

    Args:
        addresses: the IP addresses of this machine.
        secrets: whether a folder of secrets is set.
    """
    host = spec.deploy.network.service_host_ip
    components = spec.build.components
    rows = [
        (
            spec.prebuilt,
            "build.image_uri names a prebuilt image; local runs only what was built here",
            "add build.components, or choose a deploy.type that runs images, e.g. docker",
        ),
        (
            spec.build.accelerator == "gpu" or bool(spec.deploy.resources.gpu),
            "a GPU is asked for (build.accelerator or deploy.resources.gpu); local runs on the CPU only",
            "write accelerator: cpu and no gpu, or choose a deploy.type with GPUs, e.g. gcp-cloudrun",
        ),
        (
            components is not None and bool(components.custom_packages.apt),
            f"build.components.custom_packages.apt: system packages {_names(spec)} cannot be installed by local",
            "install them on this machine yourself and leave the key out, or choose a deploy.type that runs images",
        ),
        (
            bool(spec.deploy.data),
            "deploy.data: local mounts no volumes",
            "put the files beside the program, or choose another deploy.type",
        ),
        (
            host is not None and host not in addresses,
            f"deploy.network.service_host_ip: {host} is no address of this machine",
            f"use one of {', '.join(sorted(addresses))}, or leave the key out",
        ),
        (
            bool(spec.deploy.secrets) and not secrets,
            "deploy.secrets: no folder of secrets is set for local",
            "set SECRETS_DIR to a folder with one file per secret",
        ),
    ]
    return [Problem(code="unsupported_by_target", cause=cause, fix=fix) for wrong, cause, fix in rows if wrong]


def _names(spec: DeploymentSpec) -> str:
    return ", ".join(spec.build.components.custom_packages.apt) if spec.build.components else ""


def secret_file(reference: str) -> str:
    """The file that holds a secret, from `name` or `name:version` (`latest` is the file without a version).

    Raises:
        TargetError: not a secret's name; nothing outside the folder of secrets can be named.
    """
    match = _SECRET.fullmatch(reference)
    if match is None:
        raise TargetError(
            f"deploy.secrets: {reference!r} is not a secret's name",
            "write name or name:version, of letters, digits, - and _",
            code="bad_secret",
        )
    return reference if match[2] not in (None, ":latest") else match[1]


def run_of(  # noqa: PLR0913 - the whole of what a start depends on, named
    wanted: Wanted,
    image: ImageConfig,
    *,
    root: Path,
    exists: Callable[[str], bool],
    environ: Mapping[str, str],
    secrets: Mapping[str, str],
    timing: Timing,
) -> Run:
    """How a revision is started.

    Args:
        root: the folder that stands for `/` of the image.
        exists: whether an absolute path of the image is there below `root`.
        environ: the manager's own environment, of which little passes.
        secrets: variable -> value.
    """
    deploy = wanted.spec.deploy
    health, network = deploy.health, deploy.network

    def here(path: str) -> str:
        known = posixpath.isabs(path) and posixpath.normpath(path) != "/" and exists(path)
        return str(root) + posixpath.normpath(path) if known else path

    env = {name: value for name, value in environ.items() if _PASSED_ON.fullmatch(name)}
    env |= {name: _rewritten(name, value, here) for name, value in image.env.items()}
    env |= {name: here(value) for name, value in deploy.env.items()} | dict(secrets)
    env |= {"PATH": _path(env.get("PATH"), here(VENV)), "VIRTUAL_ENV": here(VENV), "PYTHONUNBUFFERED": "1"}
    return Run(
        revision=wanted.revision,
        argv=tuple(here(word) for word in image.argv),
        env=env,
        cwd=str(root) + posixpath.normpath("/" + image.workdir.lstrip("/")),
        port=wanted.spec.container_port,
        public_host=network.service_host_ip or DEFAULT_HOST,
        public_port=network.service_host_port,
        health_path=health.path,
        startup_seconds=health.startup_seconds,
        period_seconds=health.period_seconds,
        timeout_seconds=health.timeout_seconds,
        failure_threshold=health.failure_threshold,
        timing=timing,
    )


def _rewritten(name: str, value: str, here: Callable[[str], str]) -> str:
    if name in _PATH_LISTS:
        return ":".join(here(part) for part in value.split(":"))
    return here(value)


def _path(image_path: str | None, venv: str) -> str:
    first = f"{venv}/bin"
    rest = [part for part in (image_path or _SYSTEM_PATH).split(":") if part and part != first]
    return ":".join([first, *rest])


def observation(report: Report | None, *, alive: bool, removing: bool, platform: Platform) -> Observation:
    """What the state file says, given whether its writer lives.

    Nothing of a dead supervisor lives: its programs die with it or are swept by the next `apply`, so revision is None.
    """
    if removing:
        return Observation("removing")
    if not alive:
        problem = _INTERRUPTED if report else None
        return Observation("pending", problem=problem, detail="not running; the next apply starts it")
    newest = report.newest() if report else None
    if report is None or newest is None:
        return Observation("pending", detail="its supervisor is starting")
    url = _url(report.host, report.port) if report.serving and report.host and report.port else None
    problem = Problem.model_validate(newest.problem) if newest.problem else None
    return Observation(_STATES[newest.state], report.revision, url, problem, _detail(newest, platform))


_STATES: Mapping[str, Any] = {
    "starting": "pending",
    "restarting": "pending",
    "stopping": "pending",
    "stopped": "pending",
    "ready": "ready",
    "failed": "failed",
}
_INTERRUPTED = Problem(
    code="interrupted",
    cause="the service's supervisor is gone: killed, or this machine was restarted",
    fix="nothing to do: it is started again",
    retryable=True,
)


def _detail(service: ServiceReport, platform: Platform) -> str:
    """Also says for what it was built: build.architecture is not held against the machine of a developer."""
    words = f"process {service.pid} on port {service.port}, for {platform}" if service.pid else service.state
    return f"{words}, restarted {service.restarts} times" if service.restarts else words


def _url(host: str, port: int) -> str:
    reachable = {"0.0.0.0": DEFAULT_HOST, "::": "::1"}.get(host, host)  # noqa: S104 - compared, not listened on
    return f"http://[{reachable}]:{port}" if ":" in reachable else f"http://{reachable}:{port}"
