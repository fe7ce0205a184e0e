"""Why a revision did not come up: Google's reasons and words, in ours. Pure.

https://cloud.google.com/run/docs/troubleshooting
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from google.cloud import run_v2

from cloud_manager.targets.cloud_run_place import region_in
from cloud_manager.targets.local_problems import exited
from image_builder.contract import Problem

_EXITED = re.compile(r"Container called exit\((\d+)\)")
_NOT_READY = re.compile(r"^Revision '[^']*' is not ready and cannot serve traffic\. *")
_LOGS_URL = re.compile(r" *(Logs URL:|For more troubleshooting guidance).*$")
_READER = (
    "let it read: gcloud artifacts repositories add-iam-policy-binding REPOSITORY --location={region}"
    " --member=serviceAccount:{agent} --role=roles/artifactregistry.reader"
)
_ACCESSOR = (
    "make the secret and let the service read it: gcloud secrets add-iam-policy-binding NAME"
    " --member=serviceAccount:{account} --role=roles/secretmanager.secretAccessor"
)


def failure(service: run_v2.Service, words: Sequence[str]) -> Problem:
    """Args:
    service: one that has failed.
    words: the last lines of the newest revision's log; none where they could not be had.
    """
    reason, message = _reason(service), _message(service)
    port = _port(service)
    if reason == "HEALTH_CHECK_CONTAINER_ERROR" or "failed to start and listen" in message:
        return _did_not_start(service, message, words, port)
    fixes = {
        "CONTAINER_MISSING": ("image_missing", "build or push the image again; its reference is build.image_uri"),
        "CONTAINER_PERMISSION_DENIED": ("image_denied", _reader(service, message)),
        "CONTAINER_IMAGE_UNAUTHORIZED": ("image_denied", _reader(service, message)),
        "SECRETS_ACCESS_CHECK_FAILED": ("secret_denied", _ACCESSOR.format(account=service.template.service_account)),
        "PROGRESS_DEADLINE_EXCEEDED": ("too_slow", "start again; if it stays so, look at the service's logs"),
        "VPC_NETWORK_NOT_FOUND": ("network_missing", "set GCP_NETWORK of the manager to a network of the project"),
    }
    code, fix = fixes.get(reason, ("cloud_run_failed", "mend what it names and start again"))
    return Problem(code=code, cause=f"Cloud Run: {message or reason}", fix=fix)


def _did_not_start(service: run_v2.Service, message: str, words: Sequence[str], port: int) -> Problem:
    """Cloud Run says the same of a program that ended and of one that never listened; its log may tell."""
    lines = [" ".join(line.split()) for line in words]
    ended = next((match for line in lines if (match := _EXITED.search(line))), None)
    own = [line for line in lines if not _EXITED.search(line)]
    if ended is not None:
        return Problem.model_validate(exited(int(ended[1]), own, port))
    probe = service.template.containers[0].startup_probe if service.template.containers else run_v2.Probe()
    seconds = (probe.period_seconds or 240) * (probe.failure_threshold or 1)
    asked = f"answer GET {probe.http_get.path}" if "http_get" in probe else "listen"
    tail = (
        f"; its last lines: {' | '.join(own)}" if own else f" ({message})" if not message.startswith("The user") else ""
    )
    return Problem(
        code="never_listens",
        cause=f"the program ended, or did not {asked} on PORT={port} within {seconds} s{tail}",
        fix="listen on 0.0.0.0 and the PORT variable, or raise deploy.health.startup_seconds if it is slow; "
        "its whole output is in the service's logs",
    )


def _reason(service: run_v2.Service) -> str:
    """Of the first condition that says one: `REVISION_FAILED` alone says nothing."""
    for condition in (service.terminal_condition, *service.conditions):
        if condition.state != run_v2.Condition.State.CONDITION_FAILED:
            continue
        for field in ("revision_reason", "reason"):
            if field in condition and getattr(condition, field).name != "REVISION_FAILED":
                return str(getattr(condition, field).name)
    return ""


def _message(service: run_v2.Service) -> str:
    """In one line, without what only a console needs."""
    words = " ".join(service.terminal_condition.message.split())
    return _LOGS_URL.sub("", _NOT_READY.sub("", words))[:500].rstrip(" .")


def _port(service: run_v2.Service) -> int:
    ports = [port.container_port for container in service.template.containers for port in container.ports]
    return int(ports[0]) if ports else 8080


def _reader(service: run_v2.Service, message: str) -> str:
    agent = re.search(r"\S+@\S+\.gserviceaccount\.com", message)
    return _READER.format(region=region_in(service.name), agent=agent[0] if agent else "SERVICE-AGENT")
