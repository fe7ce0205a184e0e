"""A note in a registry that says which blob is the layer with a content key. Pure.

It is a whole image of that one layer, small as images can be, tagged with the key: registries of every age take it (not
all know artifacts with types of their own), their garbage collection keeps the layer because of it, and every tool
reads it. What it runs on is `unknown`, as in the attestations that BuildKit stores beside images: it is not to be run.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

from image_builder.layers.index import Layer
from image_builder.oci.image import CONFIG_TYPE, LAYER_TYPE, MANIFEST_TYPE, canonical, digest_of

KEY = "io.tango.cloud-deploy.layer.key"
DIFF_ID = "io.tango.cloud-deploy.layer.diff-id"
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Note:
    """Both as they are sent. The same key and layer give the same bytes, whoever writes them."""

    config: bytes
    manifest: bytes


def note_of(key: str, layer: Layer) -> Note:
    config = canonical(
        {
            "architecture": "unknown",
            "os": "unknown",
            "config": {},
            "rootfs": {"type": "layers", "diff_ids": [layer.diff_id]},
        }
    )
    manifest: dict[str, Any] = {
        "schemaVersion": 2,
        "mediaType": MANIFEST_TYPE,
        "config": {"mediaType": CONFIG_TYPE, "digest": digest_of(config), "size": len(config)},
        "layers": [{"mediaType": LAYER_TYPE, "digest": layer.digest, "size": layer.size}],
        "annotations": {KEY: key, DIFF_ID: layer.diff_id},
    }
    return Note(config, canonical(manifest))


def read_note(key: str, manifest: bytes) -> Layer | None:
    """What a note on `key` says; None for whatever `note_of` would not have written to the byte."""
    try:
        said = json.loads(manifest)
        layer = Layer(said["layers"][0]["digest"], said["annotations"][DIFF_ID], said["layers"][0]["size"])
        return layer if _sound(layer) and note_of(key, layer).manifest == manifest else None
    except (ValueError, LookupError, TypeError, RecursionError):
        return None


def _sound(layer: Layer) -> bool:
    digests = all(_DIGEST.fullmatch(digest) for digest in (layer.digest, layer.diff_id))
    return digests and type(layer.size) is int and layer.size > 0  # of JSON: true and 1.5 are numbers too
