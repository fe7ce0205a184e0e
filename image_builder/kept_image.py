"""What belongs to an image in the builder's own layout. Blocking."""

from __future__ import annotations

import json

from image_builder.oci.layout import Layout

MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"


def blobs_of(layout: Layout, manifest: str) -> dict[str, str]:
    """Media type by digest of a manifest and all that it names; empty if the manifest is not there, or is damaged.

    Shape: https://github.com/opencontainers/image-spec/blob/main/manifest.md
    """
    if not layout.has(manifest):
        return {}
    try:
        content = json.loads(layout.path(manifest).read_bytes())
        parts = [content["config"], *content["layers"]]
        kinds = {str(part["digest"]): str(part["mediaType"]) for part in parts}
    except (FileNotFoundError, ValueError, LookupError, TypeError):
        return {}
    return kinds | {manifest: str(content.get("mediaType", MANIFEST_TYPE))}


def is_whole(layout: Layout, manifest: str) -> bool:
    """True if the manifest and everything it names is there."""
    names = blobs_of(layout, manifest)
    return bool(names) and all(layout.has(digest) for digest in names)
