"""What the `docker` target decides, without touching anything: names, labels, and the requests to the Engine.

Nothing of a deployment.yaml reaches a request but through `Plan`: no key of it can ask for a folder of the host, for
privileges, for the host's network, or for another project's container.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from cloud_manager.build_request import argv
from cloud_manager.deployment import Key
from cloud_manager.deployment_spec import DataVolume, DeploymentSpec
from cloud_manager.names import service_id
from cloud_manager.targets.target import Wanted

LABEL = "io.tango.cloud-deploy"
DEFAULT_HOST = "127.0.0.1"
EVERYWHERE = "0.0.0.0"  # noqa: S104 - what `public: true` asks for
FRONT_HOME = "/run/cloud-deploy"
FRONT_PORT = 8080
SECRETS_HOME = "/run/secrets"
STOP_SECONDS = 10
"""What a program gets between SIGTERM and SIGKILL."""
AT_FIRST = {"Name": "on-failure", "MaximumRetryCount": 1}
"""Once more: an Engine that dies while a program comes up starts it again. One that fails twice is told at once."""
ONCE_READY = {"Name": "always", "MaximumRetryCount": 0}
"""Not `unless-stopped`: an Engine that was killed first stops what still runs, and counts that as done by hand.
Seen with 20.10; https://github.com/moby/moby/issues/41302
"""
ONCE_FAILED = {"Name": "no", "MaximumRetryCount": 0}
"""What has been stopped for good: by `on-failure` an Engine that returns would start it once more."""
_NOBODY = 65534
_MIB = 1024 * 1024
_FREE_PORTS, _PORT_TRIES = range(20000, 32000), 8
_WITH_SECRETS = 'for name in {names}; do export "$name=$(cat {home}/$name)" || exit 1; done; exec "$@"'


@dataclass(frozen=True, slots=True)
class ImageStart:
    """What an image's configuration says of how to run."""

    entrypoint: tuple[str, ...] = ()
    command: tuple[str, ...] = ()

    @classmethod
    def parse(cls, inspected: Mapping[str, Any]) -> ImageStart:
        config = inspected.get("Config") or {}
        return cls(tuple(config.get("Entrypoint") or ()), tuple(config.get("Cmd") or ()))


@dataclass(frozen=True, slots=True)
class Names:
    """What things of one project are called on an Engine. owner: this installation's name there."""

    owner: str
    key: Key

    @property
    def base(self) -> str:
        return f"{self.owner}-{service_id(self.key)}"

    def program(self, revision: str) -> str:
        return f"{self.base}-{revision}"

    def front(self, address: str) -> str:
        return f"{self.base}-front-{_short(address)}"

    def volume(self, volume: DataVolume) -> str:
        return f"{self.base}-{_short(f'{volume.nfs_ip}:{volume.nfs_path}')}"

    def labels(self, role: str, **more: str) -> dict[str, str]:
        """Ownership labels."""
        rows = {"owner": self.owner, "user": self.key.user_id, "project": self.key.project_id, "role": role, **more}
        return {f"{LABEL}.{name}": value for name, value in rows.items()}

    def selector(self) -> dict[str, list[str]]:
        """Filter of a list call, for everything of this project."""
        return {"label": [f"{name}={value}" for name, value in self.labels("").items() if value]}


def owner_selector(owner: str) -> dict[str, list[str]]:
    """Filter of a list call, for everything of this installation."""
    return {"label": [f"{LABEL}.owner={owner}"]}


@dataclass(frozen=True, slots=True)
class Plan:
    """All requests that make a revision so.

    address: which public address is asked for; a front serves one.
    ports: public ports to try in this order; 0 lets the Engine choose.
    wish: what the front is told, but for what is known later (attempt, container, settled).
    """

    names: Names
    revision: str
    address: str
    host: str
    ports: tuple[int, ...]
    program: dict[str, Any]
    volumes: tuple[dict[str, Any], ...]
    network: dict[str, Any]
    wish: dict[str, Any] = field(default_factory=dict)

    def front(self, image: str, port: int) -> dict[str, Any]:
        """The container that holds the public port. It runs as nobody, without a capability."""
        inner = f"{FRONT_PORT}/tcp"
        return {
            "Image": image,
            "Entrypoint": ["python3", "-I", "-S", "-B", f"{FRONT_HOME}/front.py"],
            "Cmd": [],
            "User": f"{_NOBODY}:{_NOBODY}",
            "WorkingDir": "/",
            "Labels": self.names.labels("front", address=self.address),
            "ExposedPorts": {inner: {}},
            "Healthcheck": {"Test": ["NONE"]},
            "StopSignal": "SIGKILL",  # it has nothing to bring to an end, and heeds no other as the first process
            "HostConfig": _confined(self.names)
            | {
                "Init": False,  # it would be started also where there is no python3, and end at once
                "PortBindings": {inner: [{"HostIp": self.host, "HostPort": str(port or "")}]},
                "CapDrop": ["ALL"],
                "Memory": 256 * _MIB,
                "RestartPolicy": ONCE_READY,
            },
            "NetworkingConfig": _joined(self.names, "front"),
        }


def plan_of(wanted: Wanted, owner: str, image: str, start: ImageStart) -> Plan:
    """Args:
    image: reference of an image that the Engine has.
    start: how that image starts, where secrets must be set before it does.
    """
    names, spec = Names(owner, wanted.key), wanted.spec
    network, health = spec.deploy.network, spec.deploy.health
    host = network.service_host_ip or (EVERYWHERE if spec.deploy.public else DEFAULT_HOST)
    return Plan(
        names=names,
        revision=wanted.revision,
        address=f"{host}:{network.service_host_port or 'any'}",
        host=host,
        ports=_ports(names, network.service_host_port),
        program=_program(wanted, names, image, start),
        volumes=tuple(_volume(names, volume) for volume in spec.deploy.data),
        network={
            "Name": names.base,
            "Driver": "bridge",
            "CheckDuplicate": True,
            "Labels": names.labels("network"),
        },
        wish={
            "revision": wanted.revision,
            "host": alias(wanted.revision),
            "port": spec.container_port,
            "path": health.path,
            "startup": health.startup_seconds,
            "period": health.period_seconds,
            "timeout": health.timeout_seconds,
            "threshold": health.failure_threshold,
        },
    )


def alias(revision: str) -> str:
    """Name of a program within its project's network."""
    return f"r-{revision}"


def _ports(names: Names, port: int | None) -> tuple[int, ...]:
    """Without a wish: ports that this project is given again and again, so that its address outlives its front."""
    if port is not None:
        return (port,)
    first = zlib.crc32(names.base.encode())
    return (*(_FREE_PORTS[(first + step * 997) % len(_FREE_PORTS)] for step in range(_PORT_TRIES)), 0)


def _program(wanted: Wanted, names: Names, image: str, start: ImageStart) -> dict[str, Any]:
    spec = wanted.spec
    deploy = spec.deploy
    env = {**deploy.env, **{f"{name}_FILE": f"{SECRETS_HOME}/{name}" for name in deploy.secrets}}
    env |= {"PYTHONUNBUFFERED": "1", "PORT": str(spec.container_port)}
    request: dict[str, Any] = {
        "Image": image,
        "Env": [f"{name}={value}" for name, value in env.items()],
        "Labels": names.labels("program", revision=wanted.revision, service=deploy.service_name or ""),
        "Healthcheck": {"Test": ["NONE"]},  # the front asks, as often as the file says
        "StopTimeout": STOP_SECONDS,
        "HostConfig": _confined(names)
        | _sizes(spec)
        | {
            "Mounts": [_mount(names, volume) for volume in deploy.data],
            "RestartPolicy": AT_FIRST,
        },
        "NetworkingConfig": _joined(names, alias(wanted.revision)),
    }
    return request | _start(wanted, start)


def _start(wanted: Wanted, start: ImageStart) -> dict[str, Any]:
    """How it begins, where that is not as the image says.

    Secrets become variables in a shell that then becomes the program: an image's or a container's `Env` is shown by
    `docker inspect`, these are not.
    """
    deploy = wanted.spec.deploy
    prebuilt = wanted.image is None
    own = argv(deploy.entrypoint) if prebuilt else ()
    request: dict[str, Any] = {"Entrypoint": list(own), "Cmd": []} if own else {}
    if deploy.secrets:
        script = _WITH_SECRETS.format(names=" ".join(deploy.secrets), home=SECRETS_HOME)
        request = {"Entrypoint": ["/bin/sh", "-c", script, "sh"], "Cmd": list(own or start.entrypoint + start.command)}
    if prebuilt and deploy.workdir:
        request["WorkingDir"] = deploy.workdir if deploy.workdir.startswith("/") else f"/workspace/{deploy.workdir}"
    return request


def _confined(names: Names) -> dict[str, Any]:
    """What holds for every container of ours, whatever the file says."""
    return {
        "NetworkMode": names.base,
        "Init": True,
        "Privileged": False,
        "SecurityOpt": ["no-new-privileges:true"],
        "PidsLimit": 4096,
        "LogConfig": {"Type": "json-file", "Config": {"max-size": "10m", "max-file": "3"}},
    }


def _joined(names: Names, name: str) -> dict[str, Any]:
    return {"EndpointsConfig": {names.base: {"Aliases": [name]}}}


def _sizes(spec: DeploymentSpec) -> dict[str, Any]:
    resources = spec.deploy.resources
    sizes: dict[str, Any] = {}
    if resources.cpu:
        sizes["NanoCpus"] = round(resources.cpu * 1_000_000_000)
    if resources.memory:
        # Without swap on top: it would be slow long before it was told to be too large.
        sizes |= {"Memory": resources.memory * _MIB, "MemorySwap": resources.memory * _MIB}
    count = gpus(spec)
    if count:
        sizes["DeviceRequests"] = [{"Driver": "", "Count": count, "Capabilities": [["gpu"]]}]
    return sizes


def gpus(spec: DeploymentSpec) -> int:
    """`accelerator: gpu` without a number asks for one."""
    count = spec.deploy.resources.gpu
    return count if count is not None else int(spec.build.accelerator == "gpu")


def _volume(names: Names, volume: DataVolume) -> dict[str, Any]:
    """An NFS export, mounted by the Engine itself: https://docs.docker.com/engine/storage/volumes/"""
    options = {"type": "nfs", "o": f"addr={volume.nfs_ip},ro,soft,timeo=100", "device": f":{volume.nfs_path}"}
    return {
        "Name": names.volume(volume),
        "Driver": "local",
        "DriverOpts": options,
        "Labels": names.labels("volume"),
    }


def _mount(names: Names, volume: DataVolume) -> dict[str, Any]:
    more = {"ReadOnly": True, "VolumeOptions": {"NoCopy": True}}
    return {"Type": "volume", "Source": names.volume(volume), "Target": volume.mount, **more}


def _short(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:8]
