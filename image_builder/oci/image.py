"""The two JSON documents that make layers an image. Pure.

https://github.com/opencontainers/image-spec/blob/main/config.md and manifest.md
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

CONFIG_TYPE = "application/vnd.oci.image.config.v1+json"
LAYER_TYPE = "application/vnd.oci.image.layer.v1.tar+gzip"
MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"

_NOT_INHERITED = ("Cmd", "Image", "Hostname", "Domainname", "OnBuild")
"""Besides `Cmd`: what Docker noted of the container in which it made the base, and what is for Dockerfiles only."""

_CREATED = "1970-01-01T00:00:00Z"
"""Fixed: the same inputs give the same digest, whenever and wherever."""


@dataclass(frozen=True, slots=True)
class ImageLayer:
    """title: what is in it, for the history."""

    digest: str
    diff_id: str
    size: int
    title: str
    media_type: str = LAYER_TYPE


@dataclass(frozen=True, slots=True)
class ImageConfig:
    """How the image runs. platform: `os/architecture`."""

    platform: str
    entrypoint: Sequence[str]
    workdir: str
    env: Mapping[str, str]
    port: int
    labels: Mapping[str, str]


def config_json(config: ImageConfig, layers: Sequence[ImageLayer], base: Mapping[str, Any] | None = None) -> bytes:
    """The configuration of an image.

    Args:
        layers: those that are put on the base.
        base: the base's configuration. What it says stays where `config` says nothing else, except for `Cmd`: that
            would become arguments of our entrypoint, which is why a Dockerfile's ENTRYPOINT resets it, too.
    """
    system, architecture = config.platform.split("/")
    lower = base or {}
    running = {key: value for key, value in (lower.get("config") or {}).items() if key not in _NOT_INHERITED}
    return canonical(
        {
            **({"variant": lower["variant"]} if lower.get("variant") else {}),
            "architecture": architecture,
            "os": system,
            "created": _CREATED,
            "config": running
            | {
                "Env": [f"{name}={value}" for name, value in (_environment(running) | dict(config.env)).items()],
                "Entrypoint": list(config.entrypoint),
                "WorkingDir": config.workdir,
                "ExposedPorts": (running.get("ExposedPorts") or {}) | {f"{config.port}/tcp": {}},
                "Labels": (running.get("Labels") or {}) | dict(config.labels),
            },
            "rootfs": {
                "type": "layers",
                "diff_ids": [*_diff_ids(lower), *(layer.diff_id for layer in layers)],
            },
            "history": [
                *_history(lower),
                *({"created": _CREATED, "created_by": f"cloud-deploy: {layer.title}"} for layer in layers),
            ],
        }
    )


def _environment(running: Mapping[str, Any]) -> dict[str, str]:
    """`Env` of the part of a configuration that says how it runs, by name."""
    return {name: value for name, _, value in (row.partition("=") for row in running.get("Env") or [])}


def _diff_ids(config: Mapping[str, Any]) -> list[str]:
    return list((config.get("rootfs") or {}).get("diff_ids") or [])


def _history(config: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The base's own, if it speaks of as many layers as there are: readers match the two one by one."""
    rows = list(config.get("history") or [])
    layers = len(_diff_ids(config))
    if sum(not row.get("empty_layer") for row in rows) == layers:
        return rows
    return [{"created": _CREATED, "created_by": "base image"}] * layers


def manifest_json(config: bytes, layers: Sequence[ImageLayer]) -> bytes:
    return canonical(
        {
            "schemaVersion": 2,
            "mediaType": MANIFEST_TYPE,
            "config": {"mediaType": CONFIG_TYPE, "digest": digest_of(config), "size": len(config)},
            "layers": [{"mediaType": layer.media_type, "digest": layer.digest, "size": layer.size} for layer in layers],
        }
    )


def descriptor(manifest: bytes, platform: str) -> dict[str, Any]:
    """The manifest's line in an index."""
    system, architecture = platform.split("/")
    return {
        "mediaType": MANIFEST_TYPE,
        "digest": digest_of(manifest),
        "size": len(manifest),
        "platform": {"architecture": architecture, "os": system},
    }


def digest_of(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def canonical(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()
