"""A gzip file as a chain of members (RFC 1952, 2.2), so that deflate data made by others is carried over as it is."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterable, Iterator

from image_builder.layers.side_hash import SideHash

_HEADER = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"
"""Deflate, no name, no time, unknown system: nothing of this machine."""

_LEVEL = 6
_STORED_MAX = 0xFFFF
"""Longest stored block of deflate, in bytes: RFC 1951, 3.2.4."""
_BATCH = 1 << 20
"""Small data are collected to members of about this many bytes, uncompressed."""
_CHUNK = 1 << 20


class BadDeflate(ValueError):
    """What was to be carried over is not what its size and checksum say."""


class GzipChain:
    """Writes a gzip stream to `sink` and hashes what it will inflate to.

    `add` for small data, `add_compressed` for large, `add_stored` for what does not compress, `add_deflated` for
    what is compressed already. A context manager; after `close` the stream is whole.

    Args:
        progress: told the uncompressed bytes so far, often.
    """

    def __init__(self, sink: Callable[[bytes], None], progress: Callable[[int], None] = lambda _: None) -> None:
        self._sink = sink
        self._progress = progress
        self._hash = SideHash()
        self._batch = bytearray()
        self.size = 0
        """Bytes before compression, so far."""

    def add(self, data: bytes) -> None:
        """Data to be compressed together with what is added before and after."""
        self._count(data)
        self._batch += data
        if len(self._batch) >= _BATCH:
            self._flush()

    def add_stored(self, chunks: Iterable[bytes]) -> None:
        """Data to be stored as they are, in a member of their own."""
        self._flush()
        self._sink(_HEADER)
        crc = size = 0
        for chunk in chunks:
            self._count(chunk)
            crc = zlib.crc32(chunk, crc)
            size += len(chunk)
            self._sink(_stored_blocks(chunk))
        self._sink(b"\x01\x00\x00\xff\xff" + _trailer(crc, size))

    def add_compressed(self, chunks: Iterable[bytes], level: int = _LEVEL) -> None:
        """Data to be compressed in a member of their own, as they stream in."""
        self._flush()
        self._sink(_HEADER)
        packer = _packer(level)
        crc = size = 0
        for chunk in chunks:
            self._count(chunk)
            crc = zlib.crc32(chunk, crc)
            size += len(chunk)
            self._sink(packer.compress(chunk))
        self._sink(packer.flush() + _trailer(crc, size))

    def add_deflated(self, chunks: Iterable[bytes], *, crc: int, size: int) -> None:
        """A whole raw deflate stream made by someone else, in a member of its own, inflated only to be checked.

        Raises:
            BadDeflate: it does not inflate to `size` bytes with checksum `crc`.
        """
        self._flush()
        self._sink(_HEADER)
        seen = _Inflated(size)
        for chunk in chunks:
            for part in seen.feed(chunk):
                self._count(part)
            self._sink(chunk)
        seen.check(crc)
        self._sink(_trailer(crc, size))

    def close(self) -> str:
        """Write what is left; `sha256:…` of the uncompressed data (OCI: the layer's diff id)."""
        self._flush()
        return f"sha256:{self._hash.hexdigest()}"

    def _count(self, data: bytes) -> None:
        self._hash.update(data)
        self.size += len(data)
        self._progress(self.size)

    def __enter__(self) -> GzipChain:
        return self

    def __exit__(self, *exc: object) -> None:
        self._hash.__exit__(*exc)

    def _flush(self) -> None:
        if self._batch:
            data = bytes(self._batch)
            self._batch.clear()
            packer = _packer(_LEVEL)
            packed = packer.compress(data) + packer.flush()
            self._sink(_HEADER + packed + _trailer(zlib.crc32(data), len(data)))


def inflated(data: bytes, *, crc: int, size: int) -> bytes:
    """A raw deflate stream in memory, checked.

    Raises:
        BadDeflate
    """
    seen = _Inflated(size)
    whole = b"".join(seen.feed(data))
    seen.check(crc)
    return whole


class _Inflated:
    """Inflates in bounded pieces: a stream that says 1 MB and holds 1 TB is stopped at 1 MB."""

    def __init__(self, expected: int) -> None:
        self._expected = expected
        self._unpacker = zlib.decompressobj(-zlib.MAX_WBITS)
        self._crc = 0
        self._size = 0

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        while True:
            part = self._inflate(chunk)
            if part:
                yield part
            chunk = self._unpacker.unconsumed_tail
            # zlib may still hold output after it has taken all input in: then the last part was full.
            if not chunk and len(part) < _CHUNK:
                return

    def _inflate(self, chunk: bytes) -> bytes:
        try:
            part = self._unpacker.decompress(chunk, _CHUNK)
        except zlib.error as error:
            raise BadDeflate(str(error)) from error
        self._crc = zlib.crc32(part, self._crc)
        self._size += len(part)
        if self._size > self._expected or self._unpacker.unused_data:
            raise BadDeflate(f"more data than the {self._expected} bytes it says")
        return part

    def check(self, crc: int) -> None:
        if not self._unpacker.eof or self._size != self._expected or self._crc != crc:
            raise BadDeflate("size or checksum differ from what it says")


def _packer(level: int) -> zlib._Compress:
    return zlib.compressobj(level, zlib.DEFLATED, -zlib.MAX_WBITS)


def _stored_blocks(data: bytes) -> bytes:
    blocks = []
    for start in range(0, len(data), _STORED_MAX):
        block = data[start : start + _STORED_MAX]
        blocks.append(struct.pack("<BHH", 0, len(block), len(block) ^ 0xFFFF) + block)
    return b"".join(blocks)


def _trailer(crc: int, size: int) -> bytes:
    return struct.pack("<II", crc, size & 0xFFFFFFFF)
