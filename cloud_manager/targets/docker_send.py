"""Sends an image of the builder into a Docker Engine: bytes go through, nothing is kept on the way."""

from __future__ import annotations

import sys
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, cast

from cloud_manager.builder import Builder
from cloud_manager.errors import DeployError
from cloud_manager.targets.docker_load import (
    END,
    BadImage,
    Blob,
    KeptImage,
    file_head,
    head,
    padding,
    read_image,
    read_manifest,
)
from cloud_manager.targets.docker_progress import Transfer
from image_builder.contract import ImageReference

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

_PIECE = 1 << 20
_LARGEST_NOTE = 16 << 20
"""Bytes that a manifest or configuration may have; real ones have a few thousand."""


@dataclass(frozen=True, slots=True)
class Parcel:
    """What goes into one archive. plain: the layers that the engine cannot unpack, which go unpacked."""

    source: ImageReference
    image: KeptImage
    name: str
    layers: Sequence[Blob]
    plain: frozenset[Blob] = frozenset()

    @property
    def size(self) -> int:
        return sum(layer.size for layer in self.layers)


async def describe(builder: Builder, source: ImageReference) -> KeptImage:
    """Manifest and configuration, a few kilobytes. Raises as `Builder.blob`, and BadImage."""
    manifest = read_manifest(await _note(builder, source, source.digest))
    return read_image(manifest, await _note(builder, source, manifest.config.digest))


async def _note(builder: Builder, source: ImageReference, digest: str) -> bytes:
    data = bytearray()
    async with aclosing(_blob(builder, source, digest)) as chunks:
        async for chunk in chunks:
            data += chunk
            if len(data) > _LARGEST_NOTE:
                raise BadImage(f"the image builder's {digest} is too large for what it is", "rebuild the image")
    return bytes(data)


class Stream:
    """The archive as a request's body. If its making fails, `failure` says why: the engine gets half an archive then,
    and drops it, and the request fails with words of its own.
    """

    def __init__(self, builder: Builder, parcel: Parcel, progress: Transfer) -> None:
        self._builder, self._parcel, self._progress = builder, parcel, progress
        self.failure: DeployError | None = None

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            yield head(self._parcel.image, self._parcel.name)
            for layer in self._parcel.layers:
                async with aclosing(self._file(layer)) as pieces:
                    async for piece in pieces:
                        yield piece
            yield END
        except DeployError as error:
            self.failure = error
            raise

    async def _file(self, layer: Blob) -> AsyncGenerator[bytes, None]:
        size = await self._plain_size(layer) if layer in self._parcel.plain else layer.size
        sent = 0
        yield file_head(layer.path, size)
        async with aclosing(self._content(layer)) as pieces:
            async for piece in pieces:
                sent += len(piece)
                yield piece
        if sent != size:
            raise BadImage(f"layer {layer.digest} has {sent} bytes, not {size}", "rebuild the image")
        yield padding(size)

    async def _plain_size(self, layer: Blob) -> int:
        """An archive says how long a file is before it comes: so the layer is read twice, rather than kept."""
        size = 0
        async with aclosing(_unpacked(_blob(self._builder, self._parcel.source, layer.digest))) as pieces:
            async for piece in pieces:
                size += len(piece)
                self._progress.alive()
        return size

    async def _content(self, layer: Blob) -> AsyncGenerator[bytes, None]:
        chunks = self._counted(layer)
        async with aclosing(_unpacked(chunks) if layer in self._parcel.plain else chunks) as pieces:
            async for piece in pieces:
                yield piece

    async def _counted(self, layer: Blob) -> AsyncGenerator[bytes, None]:
        async with aclosing(_blob(self._builder, self._parcel.source, layer.digest)) as chunks:
            async for chunk in chunks:
                yield chunk
                self._progress.done += len(chunk)
                self._progress.alive()


def _blob(builder: Builder, source: ImageReference, digest: str) -> AsyncGenerator[bytes, None]:
    return cast("AsyncGenerator[bytes, None]", builder.blob(source, digest))


async def _unpacked(chunks: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
    """Of zstd frames, in small pieces whatever they grow to.

    Raises:
        BadImage: they are not.
    """
    frame: Any = zstd.ZstdDecompressor()
    async with aclosing(chunks):
        async for chunk in chunks:
            rest = chunk
            while rest or not frame.needs_input:
                if frame.eof:
                    frame = zstd.ZstdDecompressor()
                try:
                    piece = frame.decompress(rest, _PIECE)
                except zstd.ZstdError as error:
                    raise BadImage(f"a layer's zstd cannot be read: {error}", "rebuild the image") from error
                rest = frame.unused_data if frame.eof else b""
                if piece:
                    yield piece
                if frame.eof and not rest:
                    break
    if not frame.eof:
        raise BadImage("a layer's zstd ends in its middle", "rebuild the image")
