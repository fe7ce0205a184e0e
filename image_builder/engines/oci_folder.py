"""An image as a folder of its own, as buildah reads and writes it. Blocking.

https://github.com/opencontainers/image-spec/blob/main/image-layout.md
"""

from __future__ import annotations

import json
from pathlib import Path

from image_builder.oci.base import BaseImage
from image_builder.oci.image import CONFIG_TYPE, MANIFEST_TYPE, canonical, digest_of
from image_builder.oci.layout import REF_NAME, Layout


def write_base(base: BaseImage, layout: Layout, folder: Path) -> None:
    """An image named `it`; its layers are links to the layout's."""
    blobs = folder / "blobs" / "sha256"
    blobs.mkdir(parents=True)
    config = canonical(base.config)
    rows = [{"mediaType": row.media_type, "digest": row.digest, "size": row.size} for row in base.layers]
    about = {"mediaType": CONFIG_TYPE, "digest": digest_of(config), "size": len(config)}
    manifest = canonical({"schemaVersion": 2, "mediaType": MANIFEST_TYPE, "config": about, "layers": rows})
    for data in (config, manifest):
        (blobs / digest_of(data).removeprefix("sha256:")).write_bytes(data)
    for digest in {row.digest for row in base.layers}:
        (blobs / digest.removeprefix("sha256:")).symlink_to(layout.path(digest).resolve())
    row = {"mediaType": MANIFEST_TYPE, "digest": digest_of(manifest), "size": len(manifest)}
    index = {"schemaVersion": 2, "manifests": [{**row, "annotations": {REF_NAME: "it"}}]}
    (folder / "index.json").write_bytes(canonical(index))
    (folder / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')


def read_image(folder: Path) -> tuple[bytes, list[Path]]:
    """Configuration and layers, lowest first, of a folder with one image. Layers of a base image stay compressed as
    its registry gave them.
    """
    (row,) = json.loads((folder / "index.json").read_bytes())["manifests"]
    manifest = json.loads(_blob(folder, row["digest"]).read_bytes())
    config = _blob(folder, manifest["config"]["digest"]).read_bytes()
    return config, [_blob(folder, layer["digest"]) for layer in manifest["layers"]]


def _blob(folder: Path, digest: str) -> Path:
    return folder / "blobs" / "sha256" / digest.removeprefix("sha256:")
