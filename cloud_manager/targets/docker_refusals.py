"""What the Docker Engine refuses, in words for the person who wrote the deployment. Pure.

The Engine tells most refusals apart by their text only: https://docs.docker.com/reference/api/engine/#errors
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

from image_builder.contract import Problem


class _Known(NamedTuple):
    pattern: str
    code: str
    cause: str
    fix: str
    retryable: bool = False


_KNOWN = (
    _Known(
        r"port is already allocated|address already in use",
        "port_in_use",
        "the port of deploy.network.service_host_port is in use",
        "stop what uses it, or choose another deploy.network.service_host_port (or none, for a free one)",
    ),
    _Known(
        r"cannot assign requested address",
        "cannot_listen",
        "deploy.network.service_host_ip is no address of the Engine's machine",
        "use an address of that machine, or leave the key out",
    ),
    _Known(
        r"could not select device driver|nvidia-container-cli|unknown or invalid runtime|CDI device",
        "no_gpu_runtime",
        "the Docker Engine has no GPU runtime",
        "install the NVIDIA container toolkit on its machine, or ask for no GPU (accelerator: cpu, no resources.gpu)",
    ),
    _Known(
        r"no such image|manifest unknown|pull access denied",
        "no_such_image",
        "the Docker Engine does not have the image",
        "check build.image_uri; an image that was cleared away is sent again by the next start",
    ),
    _Known(
        r"no space left on device",
        "engine_disk_full",
        "the disk of the Docker Engine is full",
        "make room (docker system prune); it is tried again by itself",
        retryable=True,
    ),
    _Known(
        r"executable file not found|exec: .*(no such file or directory|permission denied)",
        "entrypoint_missing",
        "deploy.entrypoint: the image has no such program",
        "name a file that lies beside deployment.yaml's program, or a command that one of the libs installs",
    ),
    _Known(
        r"range of cpus is from",
        "too_large",
        "deploy.resources.cpu: the Engine's machine has fewer processors",
        "ask for fewer",
    ),
    _Known(
        r"minimum memory limit",
        "too_small",
        "deploy.resources.memory is less than a container needs",
        "ask for more, e.g. 512Mi",
    ),
    _Known(
        r"non-overlapping ipv4 address pool|address pools have been fully subnetted",
        "no_networks_left",
        "the Docker Engine has no room for another network; each project has one",
        "remove unused ones (docker network prune), or give the Engine more default-address-pools",
    ),
    _Known(
        r"is already in use by container|network with name .* already exists",
        "name_in_use",
        "the name is taken by something that is not ours",
        "rename or remove that, or give this installation a DOCKER_OWNER of its own",
    ),
)


def refusal(doing: str, status: int, message: str) -> Problem:
    """Args:
    doing: what was asked, e.g. `create container web-1`.
    status: the HTTP status; 0 for an error within a stream.
    """
    words = " ".join(message.split())
    for known in _KNOWN:
        if re.search(known.pattern, words, re.IGNORECASE):
            cause = f"{known.cause}; docker: {doing}: {words}"
            return Problem(code=known.code, cause=cause, fix=known.fix, retryable=known.retryable)
    return Problem(
        code="engine_refused",
        cause=f"docker: {doing}: {words or status}",
        fix="look at the Docker Engine's log" + ("; it is tried again by itself" if status >= 500 else ""),
        retryable=status >= 500,
    )


def unavailable(address: str, reason: str) -> Problem:
    """The Engine does not answer."""
    fixes: Mapping[str, str] = {
        "permission denied": "let the manager's user use its socket (group docker)",
        "no such file": "start it, or set DOCKER_HOST to where it listens",
        "certificate": "check DOCKER_CERT_PATH: ca.pem, cert.pem and key.pem",
    }
    fix = next((words for sign, words in fixes.items() if sign in reason.lower()), "start it")
    cause = f"the Docker Engine at {address} does not answer: {' '.join(reason.split())}"
    return Problem(code="engine_unavailable", cause=cause, fix=f"{fix}; it is tried again by itself", retryable=True)
