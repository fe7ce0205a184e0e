"""An image of the builder as what `POST /images/load` of a Docker Engine reads: `docker save`'s own archive. Pure.

Every engine reads it; before 25 they read no OCI archive. An engine unpacks the archive into a folder of its own first
and opens the file of a layer only if it does not know the layer (by those below it, too), so the files of layers that
it knows may be left out: https://github.com/moby/moby/blob/v20.10.24/image/tarexport/load.go
"""

from __future__ import annotations

import json
import tarfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from cloud_manager.errors import TargetError

ZSTD_ENGINE = 23
"""The first major version that unpacks zstd: https://docs.docker.com/engine/release-notes/23.0/"""

END = bytes(2 * tarfile.BLOCKSIZE)


class BadImage(TargetError):
    """What the builder sent is not an image that an engine can run."""

    code = "bad_image"


@dataclass(frozen=True, slots=True)
class Blob:
    """As a manifest describes it. size: in bytes, compressed."""

    digest: str
    size: int
    media_type: str

    @property
    def is_zstd(self) -> bool:
        return self.media_type.endswith("zstd")

    @property
    def path(self) -> str:
        """Its name in the archive."""
        return f"{self.digest.removeprefix('sha256:')}.tar"


@dataclass(frozen=True, slots=True)
class Manifest:
    """https://github.com/opencontainers/image-spec/blob/main/manifest.md"""

    config: Blob
    layers: tuple[Blob, ...]


@dataclass(frozen=True, slots=True)
class KeptImage:
    """An image in the builder's store. config: its bytes. diff_ids: digests of the plain tars, lowest first."""

    manifest: Manifest
    config: bytes
    diff_ids: tuple[str, ...]
    labels: Mapping[str, str]

    @property
    def id(self) -> str:
        """What an engine calls it, unless it keeps images in containerd."""
        return self.manifest.config.digest

    @property
    def layers(self) -> tuple[Blob, ...]:
        return self.manifest.layers


def read_manifest(data: bytes) -> Manifest:
    """Raises:
    BadImage
    """
    try:
        content = json.loads(data)
        rows = [Blob(row["digest"], int(row["size"]), row["mediaType"]) for row in content["layers"]]
        config = content["config"]
        return Manifest(Blob(config["digest"], int(config["size"]), config["mediaType"]), tuple(rows))
    except (ValueError, LookupError, TypeError) as error:
        raise _bad(f"its manifest cannot be read ({type(error).__name__}: {error})") from error


def read_image(manifest: Manifest, config: bytes) -> KeptImage:
    """Raises:
    BadImage
    """
    try:
        content = json.loads(config)
        diff_ids = tuple(str(digest) for digest in content["rootfs"]["diff_ids"])
        labels = {str(name): str(text) for name, text in (content["config"].get("Labels") or {}).items()}
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise _bad(f"its configuration cannot be read ({type(error).__name__}: {error})") from error
    if len(diff_ids) != len(manifest.layers):
        raise _bad(f"its manifest has {len(manifest.layers)} layers, its configuration {len(diff_ids)}")
    return KeptImage(manifest, config, diff_ids, labels)


def _bad(reason: str) -> BadImage:
    return BadImage(f"the image builder's image is damaged: {reason}", "rebuild the image with this image builder")


def known_layers(diff_ids: Sequence[str], images: Iterable[Sequence[str]]) -> int:
    """How many of the lowest layers an engine has that has these images (their diff ids, lowest first).

    An engine knows a layer by the chain of all layers up to it, so only those below the first difference count:
    https://github.com/opencontainers/image-spec/blob/main/config.md#layer-chainid
    """
    return max((_common(diff_ids, other) for other in images), default=0)


def _common(one: Sequence[str], other: Sequence[str]) -> int:
    pairs = enumerate(zip(one, other, strict=False))
    return next((count for count, (mine, theirs) in pairs if mine != theirs), min(len(one), len(other)))


def to_send(image: KeptImage, known: int) -> tuple[Blob, ...]:
    """The layers whose files go into the archive, each once: all but the `known` lowest."""
    return tuple(dict.fromkeys(image.layers[known:]))


def head(image: KeptImage, name: str) -> bytes:
    """The beginning of the archive: the configuration, and which layers make the image that shall be called `name`."""
    config = f"{image.id.removeprefix('sha256:')}.json"
    rows = [{"Config": config, "RepoTags": [name], "Layers": [layer.path for layer in image.layers]}]
    files = ((config, image.config), ("manifest.json", json.dumps(rows).encode()))
    return b"".join(file_head(path, len(data)) + data + padding(len(data)) for path, data in files)


def file_head(path: str, size: int) -> bytes:
    info = tarfile.TarInfo(path)
    info.size = size
    return info.tobuf(tarfile.PAX_FORMAT)


def padding(size: int) -> bytes:
    return bytes(-size % tarfile.BLOCKSIZE)


def major(version: str) -> int:
    """Of an engine's version, e.g. `20.10.24+dfsg1`; 0 if it has none that we know."""
    number = version.lstrip("v").split(".")[0]
    return int(number) if number.isdecimal() else 0
