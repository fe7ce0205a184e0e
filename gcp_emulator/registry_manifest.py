"""What a manifest must be before it is taken. Pure."""

from __future__ import annotations

import json
from dataclasses import dataclass

from gcp_emulator.registry_errors import RegistryError, bad_manifest

LARGEST = 4 << 20
_IMAGES = ("application/vnd.oci.image.manifest.v1+json", "application/vnd.docker.distribution.manifest.v2+json")
_INDEXES = ("application/vnd.oci.image.index.v1+json", "application/vnd.docker.distribution.manifest.list.v2+json")
_ELSEWHERE = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"  # layers that no registry holds


@dataclass(frozen=True)
class Parts:
    """What must be there before a manifest that names it; `size`: bytes of the blobs."""

    blobs: tuple[str, ...]
    manifests: tuple[str, ...]
    size: int = 0


def parts_of(data: bytes, media_type: str) -> Parts:
    """Raises RegistryError: MANIFEST_INVALID, SIZE_INVALID."""
    if len(data) > LARGEST:
        raise RegistryError(413, "SIZE_INVALID", f"A manifest has at most {LARGEST} bytes.")
    try:
        manifest = json.loads(data)
        said = manifest.get("mediaType", media_type)
        if said != media_type or manifest["schemaVersion"] != 2:
            raise bad_manifest(f"Content-Type says {media_type}, the manifest {said}, version 2.")
        if media_type in _INDEXES:
            return Parts((), tuple(str(child["digest"]) for child in manifest["manifests"]))
        if media_type in _IMAGES:
            held = [layer for layer in manifest["layers"] if layer.get("mediaType") != _ELSEWHERE]
            blobs = [manifest["config"], *held]
            return Parts(tuple(str(blob["digest"]) for blob in blobs), (), sum(int(blob["size"]) for blob in blobs))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise bad_manifest(f"Failed to parse manifest: {error!r}") from error
    raise bad_manifest(f"Manifests of type {media_type!r} are not supported.")
