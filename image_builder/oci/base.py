"""A base image: found by its name, pinned by its digest, and its layers brought here when their bytes are needed."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from image_builder.contract import Platform
from image_builder.errors import BuildError
from image_builder.oci.image import LAYER_TYPE
from image_builder.oci.layout import BlobWriter, Layout
from image_builder.oci.reference import Reference, parse
from image_builder.oci.registries import Registries
from image_builder.oci.registry import Manifest
from image_builder.work import each, in_thread

_INDEX_TYPES = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
)
TAR_TYPE, _ZSTD = "application/vnd.oci.image.layer.v1.tar", "application/vnd.oci.image.layer.v1.tar+zstd"
_LAYER_TYPES = {
    LAYER_TYPE: LAYER_TYPE,
    TAR_TYPE: TAR_TYPE,
    _ZSTD: _ZSTD,
    # The same bytes under Docker's older names; one manifest speaks one language.
    "application/vnd.docker.image.rootfs.diff.tar.gzip": LAYER_TYPE,
    "application/vnd.docker.image.rootfs.diff.tar": TAR_TYPE,
    "application/vnd.docker.image.rootfs.diff.tar.zstd": _ZSTD,
}
_NOT_TO_BE_SHARED = re.compile(
    r"application/vnd\.(docker\.image\.rootfs\.foreign|oci\.image\.layer\.nondistributable)\b"
)
_CONFIG_MAX = 8 << 20
_AT_A_TIME = 4

Told = Callable[["BaseLayer", int], None]
"""Told the number of bytes of a layer that are here."""


@dataclass(frozen=True, slots=True)
class BaseLayer:
    """digest: of the blob as it is stored. diff_id: of the tar inside. size: bytes of the blob. title: what it holds,
    where that is known; made: an engine made it for this very build.
    """

    digest: str
    diff_id: str
    size: int
    media_type: str
    title: str = ""
    made: bool = False


@dataclass(frozen=True, slots=True)
class BaseImage:
    """reference: pinned, `registry/name@sha256:…`, unless it came from an engine. digest: of the manifest, else the
    engine's. config: the image configuration.
    """

    reference: str
    digest: str
    config: Mapping[str, Any]
    layers: tuple[BaseLayer, ...]


async def find_base(text: str, platform: Platform, registries: Registries) -> BaseImage:
    """What a reference means now for one platform. Fetches manifests and the configuration, no layers.

    Raises:
        BuildError: code `platform_not_in_base` names the platforms that there are; `bad_base_image`; else as
            `Registry.manifest`. BadBuildRequest: the text is no reference.
    """
    reference = parse(text)
    registry = registries.of(reference)
    manifest = await registry.manifest(reference)
    with _sound(reference):
        if _is_index(manifest):
            digest = _of_platform(manifest, platform, reference)
            manifest = await registry.manifest(reference.at(digest))
        described = manifest.json["config"]
        config = json.loads(
            await _small(registry.blob(reference, described["digest"]), int(described["size"]), reference)
        )
        found = f"{config['os']}/{config['architecture']}"
        if found != platform:
            raise _platform_missing(reference, platform, [found])
        return BaseImage(
            f"{reference.registry}/{reference.repository}@{manifest.digest}",
            manifest.digest,
            config,
            _layers(manifest.json, config, reference),
        )


async def fetch_layers(
    base: BaseImage, layout: Layout, registries: Registries, told: Told = lambda _layer, _done: None
) -> None:
    """Make sure that all layers of a base are in the layout, whole and right.

    Raises:
        BuildError: code `wrong_digest`, and as `Registry.manifest`. DiskFull
    """
    slots = asyncio.Semaphore(_AT_A_TIME)
    missing = {layer.digest: layer for layer in base.layers if not layout.has(layer.digest)}

    async def one(layer: BaseLayer) -> None:
        async with slots:
            await fetch_layer(base, layer, layout, registries, told)

    await each(one(layer) for layer in missing.values())


async def fetch_layer(base: BaseImage, layer: BaseLayer, layout: Layout, registries: Registries, told: Told) -> None:
    """Bring one layer here; one that is here is left alone. Raises as `fetch_layers`."""
    if layout.has(layer.digest):
        return
    reference = parse(base.reference)
    with layout.writer(expected=layer.size) as writer:
        async for chunk in registries.of(reference).blob(reference, layer.digest):
            await _write(writer, chunk, layer)
            told(layer, writer.size)
        await in_thread(lambda _: writer.commit())


async def _write(writer: BlobWriter, chunk: bytes, layer: BaseLayer) -> None:
    if writer.size + len(chunk) > layer.size:
        raise BuildError(
            f"the layer {layer.digest} has more than the {layer.size} bytes that its manifest says",
            "Name another base image, or tell the keepers of this one.",
            code="wrong_digest",
        )
    await in_thread(lambda _: writer.write(chunk))


def _is_index(manifest: Manifest) -> bool:
    return manifest.media_type in _INDEX_TYPES or "manifests" in manifest.json


def _of_platform(index: Manifest, platform: str, reference: Reference) -> str:
    """Digest of the manifest for a platform: https://github.com/opencontainers/image-spec/blob/main/image-index.md"""
    found: dict[str, str] = {}
    for row in index.json["manifests"]:
        about = row.get("platform") or {}
        found.setdefault(f"{about.get('os')}/{about.get('architecture')}", str(row["digest"]))
    if platform in found:
        return found[platform]
    raise _platform_missing(reference, platform, [name for name in found if "unknown" not in name])


def _layers(manifest: Mapping[str, Any], config: Mapping[str, Any], reference: Reference) -> tuple[BaseLayer, ...]:
    rows, diff_ids = manifest["layers"], config["rootfs"]["diff_ids"]
    for row in rows:
        if row["mediaType"] not in _LAYER_TYPES:
            raise _not_supported(str(row["mediaType"]), reference)
    return tuple(
        BaseLayer(row["digest"], diff_id, int(row["size"]), _LAYER_TYPES[row["mediaType"]])
        for row, diff_id in zip(rows, diff_ids, strict=True)
    )


def _not_supported(media_type: str, reference: Reference) -> BuildError:
    if _NOT_TO_BE_SHARED.match(media_type):
        return BuildError(
            f"the base image {reference} has a layer that only its maker may hand out ({media_type})",
            "Name a Linux base image all of whose layers are in its registry.",
            code="bad_base_image",
        )
    return BuildError(
        f"the base image {reference} has a layer of the type {media_type[:200]}, which is not supported",
        "Name a base image whose layers are plain tars, or compressed with gzip or zstd.",
        code="bad_base_image",
    )


async def _small(chunks: AsyncIterator[bytes], size: int, reference: Reference) -> bytes:
    """All of a small blob; its size comes from outside, and is not trusted."""
    data = bytearray()
    async for chunk in chunks:
        data += chunk
        if len(data) > min(size, _CONFIG_MAX):
            raise ValueError(f"the configuration of {reference} is larger than {min(size, _CONFIG_MAX)} bytes")
    return bytes(data)


@contextmanager
def _sound(reference: Reference) -> Iterator[None]:
    """Turn what a malformed manifest or configuration makes python raise into one error that names the image."""
    try:
        yield
    except (KeyError, ValueError, TypeError, AttributeError) as error:
        raise BuildError(
            f"the base image {reference} is malformed: {type(error).__name__} {str(error)[:200]}",
            "Name another base image, or tell the keepers of this one.",
            code="bad_base_image",
        ) from error


def _platform_missing(reference: Reference, platform: str, found: list[str]) -> BuildError:
    return BuildError(
        f"the base image {reference} is not there for {platform}, only for {', '.join(sorted(set(found))) or 'none'}",
        "Name a base image for this platform, or build for one of those.",
        code="platform_not_in_base",
    )
