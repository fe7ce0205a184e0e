"""An engine's pull: what its lines say, and its refusals in words for the person who can mend them. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cloud_manager.errors import TargetError
from cloud_manager.targets.docker_reference import Reference


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of refusal. signs: of which one is in the engine's words, in lower case."""

    code: str
    signs: tuple[str, ...]
    fix: str
    retryable: bool = False


# The first that fits counts. The words are those of moby, containerd and Go's network library.
_KINDS = (
    Kind(
        "engine_disk_full",
        ("no space left on device", "disk quota exceeded"),
        "make room on the disk of the Docker Engine, e.g. with docker system prune; it is tried again",
        retryable=True,
    ),
    Kind(
        "registry_proxy",
        ("proxyconnect", "proxy authentication", "socks connect"),
        "set the proxy of the Docker Engine itself (`proxies` in daemon.json), not the manager's; it is tried again",
        retryable=True,
    ),
    Kind(
        "registry_untrusted",
        ("server gave http response to https client", "does not look like a tls handshake"),
        "serve {registry} over TLS, or name it under `insecure-registries` in the Docker Engine's daemon.json",
    ),
    Kind(
        "registry_untrusted",
        ("x509:", "certificate"),
        "put the registry's CA at /etc/docker/certs.d/{registry}/ca.crt on the Docker Engine's machine",
    ),
    Kind(
        "registry_busy",
        ("toomanyrequests", "too many requests", "rate limit"),
        "log in with docker login where the manager runs, for a higher limit; it is tried again",
        retryable=True,
    ),
    Kind(
        "registry_auth",
        ("unauthorized", "authentication required", "no basic auth", "denied", "forbidden", "insufficient_scope"),
        "check the name; if it is right, run docker login {registry} where the manager runs, as its user",
    ),
    Kind(
        "image_wrong_platform",
        ("no matching manifest", "no match for platform", "does not match the specified platform"),
        "name an image that exists for the Docker Engine's platform",
    ),
    Kind(
        "registry_unreachable",
        (
            *("no such host", "connection refused", "connection reset", "no route to host", "network is unreachable"),
            *("timeout", "timed out", "deadline exceeded", "misbehaving", "temporary failure", "download failed"),
            *("bad gateway", "service unavailable", "internal server error", "unexpected eof", "broken pipe"),
        ),
        "check that the Docker Engine's machine reaches {registry}; it is tried again",
        retryable=True,
    ),
    Kind(
        "image_not_found",
        ("manifest unknown", "not found", "name unknown", "no such image", "does not exist"),
        "check the name and the tag, and that the image was pushed to {registry}",
    ),
    Kind(
        "bad_image",
        ("unsupported", "not supported", "invalid", "mediatype"),
        "push an image that this Docker Engine can run, or update the engine",
    ),
)
_OTHER = Kind("image_pull_failed", (), "look into the log of the Docker Engine, and try docker pull {image} beside it")
_SECRET_QUERY = re.compile(r"\?[^\s\"']+")
"""Signed addresses, to which registries send a client for a blob, hold a key in their query."""


def pull_refused(words: str, reference: Reference) -> TargetError:
    """Why the engine has not pulled an image."""
    kind = next((row for row in _KINDS if any(sign in words.lower() for sign in row.signs)), _OTHER)
    cause = f"the Docker Engine cannot pull {reference}: {in_one_line(words)}"
    fix = kind.fix.format(registry=reference.registry, image=reference)
    return TargetError(cause, fix, code=kind.code, retryable=kind.retryable)


def in_one_line(words: str) -> str:
    return _SECRET_QUERY.sub("?…", " ".join(words.split()))[:400]


def error_in(line: Mapping[str, Any]) -> str | None:
    """What a line of a pull's or load's answer says went wrong. The status is 200 long before it does."""
    detail = line.get("errorDetail")
    if isinstance(detail, dict) and detail.get("message"):
        return str(detail["message"])
    return str(line["error"]) if line.get("error") else None


class Downloads:
    """Bytes of the layers that are being pulled, as far as the lines tell."""

    def __init__(self) -> None:
        self._layers: dict[str, tuple[int, int]] = {}

    def add(self, line: Mapping[str, Any]) -> None:
        """https://docs.docker.com/reference/api/engine/version/v1.41/#tag/Image/operation/ImageCreate"""
        name, status, detail = str(line.get("id", "")), line.get("status"), line.get("progressDetail") or {}
        if status == "Downloading" and detail.get("total"):
            self._layers[name] = (int(detail.get("current", 0)), int(detail["total"]))
        elif status in ("Download complete", "Pull complete") and name in self._layers:
            self._layers[name] = (self._layers[name][1],) * 2

    @property
    def done(self) -> int:
        return sum(done for done, _ in self._layers.values())

    @property
    def total(self) -> int:
        return sum(total for _, total in self._layers.values())
