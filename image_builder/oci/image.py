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

_CREATED = "1970-01-01T00:00:00Z"
"""Fixed: the same inputs give the same digest, whenever and wherever."""


@dataclass(frozen=True, slots=True)
class ImageLayer:
    """title: what is in it, for the history."""

    digest: str
    diff_id: str
    size: int
    title: str


@dataclass(frozen=True, slots=True)
class ImageConfig:
    """How the image runs. platform: `os/architecture`."""

    platform: str
    entrypoint: Sequence[str]
    workdir: str
    env: Mapping[str, str]
    port: int
    labels: Mapping[str, str]


def config_json(config: ImageConfig, layers: Sequence[ImageLayer]) -> bytes:
    system, architecture = config.platform.split("/")
    return canonical(
        {
            "architecture": architecture,
            "os": system,
            "created": _CREATED,
            "config": {
                "Env": [f"{name}={value}" for name, value in config.env.items()],
                "Entrypoint": list(config.entrypoint),
                "WorkingDir": config.workdir,
                "ExposedPorts": {f"{config.port}/tcp": {}},
                "Labels": dict(config.labels),
            },
            "rootfs": {"type": "layers", "diff_ids": [layer.diff_id for layer in layers]},
            "history": [{"created": _CREATED, "created_by": f"cloud-deploy: {layer.title}"} for layer in layers],
        }
    )


def manifest_json(config: bytes, layers: Sequence[ImageLayer]) -> bytes:
    return canonical(
        {
            "schemaVersion": 2,
            "mediaType": MANIFEST_TYPE,
            "config": {"mediaType": CONFIG_TYPE, "digest": digest_of(config), "size": len(config)},
            "layers": [{"mediaType": LAYER_TYPE, "digest": layer.digest, "size": layer.size} for layer in layers],
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
