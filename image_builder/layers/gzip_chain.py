"""A gzip file as a chain of members (RFC 1952, 2.2), so that deflate data made by others is carried over as it is."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from types import TracebackType

from isal import isal_zlib

from image_builder.layers.side_hash import SideHash

_HEADER = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"
"""Deflate, no name, no time, unknown system: nothing of this machine."""

_LEVEL = 1
_STORED_MAX = 0xFFFF
"""Longest stored block of deflate, in bytes: RFC 1951, 3.2.4."""
_BATCH = 1 << 20
"""Small data are collected to members of about this many bytes, uncompressed."""
_CHUNK = 1 << 18
_WINDOWS = ((1 << 10, 10, 2), (1 << 12, 12, 4))
"""Bytes at most, bits of the window, memory level."""
_TOLD = 1 << 20
"""Progress is told when about so many more bytes are done."""


class BadDeflate(ValueError):
    """What was to be carried over is not what its size and checksum say. name: whose it is, where that was told."""

    def __init__(self, reason: str, name: str = "") -> None:
        super().__init__(reason)
        self.name = name


class GzipChain:
    """Writes a gzip stream to `sink` and hashes what it will inflate to, on another core.

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
        self._told = 0
        self._out: list[bytes] = []
        self._held = 0
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
        self._write(_HEADER)
        crc = size = 0
        for chunk in chunks:
            self._count(chunk)
            crc = isal_zlib.crc32(chunk, crc)
            size += len(chunk)
            self._write(_stored_blocks(chunk))
        self._write(b"\x01\x00\x00\xff\xff" + _trailer(crc, size))

    def add_compressed(self, chunks: Iterable[bytes], level: int = _LEVEL) -> None:
        """Data to be compressed in a member of their own, as they stream in."""
        self._flush()
        self._write(_HEADER)
        packer = _packer(level)
        crc = size = 0
        for chunk in chunks:
            self._count(chunk)
            crc = isal_zlib.crc32(chunk, crc)
            size += len(chunk)
            self._write(packer.compress(chunk))
        self._write(packer.flush() + _trailer(crc, size))

    def add_deflated(self, chunks: Callable[[], Iterable[bytes]], *, crc: int, size: int, name: str = "") -> None:
        """A whole raw deflate stream made by someone else, in a member of its own, inflated only to be checked.

        Args:
            chunks: gives the stream, from its start at each call, in any thread: it is read twice, by the writer and
                by the one who checks, so that neither waits for the other, nor anything is kept in memory between.
            name: whose it is, for the error.

        Raises:
            BadDeflate: it does not inflate to `size` bytes with checksum `crc`. Perhaps only from a later call, or
                from `close`, since it is checked on the side.
        """
        self._flush()
        self._write(_HEADER)
        self._hash.step(partial(_hash_inflated, chunks, crc, size, name))
        for chunk in chunks():
            self._write(chunk)
        self._write(_trailer(crc, size))
        self._grow(size)

    def close(self) -> str:
        """Write what is left; `sha256:…` of the uncompressed data (OCI: the layer's diff id). Raises BadDeflate."""
        self._flush()
        self._drain()
        return f"sha256:{self._hash.hexdigest()}"

    def _count(self, data: bytes) -> None:
        self._hash.update(data)
        self._grow(len(data))

    def _grow(self, size: int) -> None:
        self.size += size
        if self.size - self._told >= _TOLD:
            self._told = self.size
            self._progress(self.size)

    def __enter__(self) -> GzipChain:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._hash.__exit__(kind, error, trace)

    def _flush(self) -> None:
        """Write what was added in small pieces."""
        if self._batch:
            data = bytes(self._batch)
            self._batch.clear()
            packer = _packer(_LEVEL, len(data))
            packed = packer.compress(data) + packer.flush()
            self._write(_HEADER + packed + _trailer(isal_zlib.crc32(data), len(data)))

    def _write(self, data: bytes) -> None:
        """In larger pieces: thousands of small members would mean as many calls of the system."""
        self._out.append(data)
        self._held += len(data)
        if self._held >= _CHUNK:
            self._drain()

    def _drain(self) -> None:
        self._sink(b"".join(self._out))
        self._out.clear()
        self._held = 0


def inflated(data: bytes, *, crc: int, size: int) -> bytes:
    """A raw deflate stream in memory, checked.

    Raises:
        BadDeflate
    """
    seen = _Inflated(size)
    whole = b"".join(seen.feed(data))
    seen.check(crc)
    return whole


def _hash_inflated(
    chunks: Callable[[], Iterable[bytes]], crc: int, size: int, name: str, update: Callable[[bytes], None]
) -> None:
    seen = _Inflated(size, name)  # now, not when it was asked for: each takes 80 KB
    for chunk in chunks():
        for part in seen.feed(chunk):
            update(part)
    seen.check(crc)


class _Inflated:
    """Inflates in bounded pieces: a stream that says 1 MB and holds 1 TB is stopped at 1 MB."""

    def __init__(self, expected: int, name: str = "") -> None:
        self._expected = expected
        self._name = name
        self._unpacker = isal_zlib.decompressobj(-zlib.MAX_WBITS)
        self._crc = 0
        self._size = 0

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        while True:
            part = self._inflate(chunk)
            if part:
                yield part
            chunk = self._unpacker.unconsumed_tail
            # It may still hold output after it has taken all input in: then the last part was full.
            if not chunk and len(part) < _CHUNK:
                return

    def _inflate(self, chunk: bytes) -> bytes:
        try:
            part: bytes = self._unpacker.decompress(chunk, _CHUNK)
        except isal_zlib.error as error:  # type: ignore[misc]  # a class, whatever its stub says
            raise BadDeflate(str(error), self._name) from error
        self._crc = isal_zlib.crc32(part, self._crc)
        self._size += len(part)
        if self._size > self._expected or self._unpacker.unused_data:
            raise BadDeflate(f"more data than the {self._expected} bytes it says", self._name)
        return part

    def check(self, crc: int) -> None:
        if not self._unpacker.eof or self._size != self._expected or self._crc != crc:
            raise BadDeflate("size or checksum differ from what it says", self._name)


def _packer(level: int, size: int = 1 << 30) -> zlib._Compress:
    """size: bytes to come. For a few, a small window does, and costs a sixth of the time: see zlib.h, deflateInit2."""
    window, memory = next((row[1:] for row in _WINDOWS if size <= row[0]), (zlib.MAX_WBITS, zlib.DEF_MEM_LEVEL))
    return zlib.compressobj(level, zlib.DEFLATED, -window, memory)


def _stored_blocks(data: bytes) -> bytes:
    blocks = []
    for start in range(0, len(data), _STORED_MAX):
        block = data[start : start + _STORED_MAX]
        blocks.append(struct.pack("<BHH", 0, len(block), len(block) ^ 0xFFFF) + block)
    return b"".join(blocks)


def _trailer(crc: int, size: int) -> bytes:
    return struct.pack("<II", crc, size & 0xFFFFFFFF)
