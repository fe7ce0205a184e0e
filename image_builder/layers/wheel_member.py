"""One file inside a wheel, and what makes a wheel unsound."""

from __future__ import annotations

import configparser
import contextlib
import csv
import lzma
import os
import struct
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import BinaryIO

from installer.exceptions import InstallerError
from installer.records import InvalidRecordEntry
from isal import isal_zlib

from image_builder.errors import ResolveFailed
from image_builder.layers.gzip_chain import BadDeflate, GzipChain, inflated
from image_builder.work import StopFlag

_ENCRYPTED, _UTF8 = 0x1, 0x800
"""Flags of a member (APPNOTE 4.4.4)."""

_SMALL = 1024
"""Members of fewer compressed bytes are inflated and compressed together with their neighbours."""
_CHUNK = 1 << 16
_EXTRA = 64
"""Most members have no more than that between their name and their bytes."""


@contextlib.contextmanager
def sound(filename: str) -> Iterator[None]:
    """Turn what an unsound wheel makes zipfile and installer raise into one error that names it."""
    try:
        yield
    except (
        zipfile.BadZipFile,
        InstallerError,
        InvalidRecordEntry,
        configparser.Error,  # entry_points.txt
        zlib.error,
        lzma.LZMAError,
        BadDeflate,
        NotImplementedError,  # an unknown compression
        RuntimeError,  # encrypted
        KeyError,  # a file that must be there is not
        ValueError,
        AssertionError,
        struct.error,
        csv.Error,
        EOFError,
    ) as error:
        raise _unsound(filename, error) from error
    except OSError as error:
        if error.errno is not None:
            raise
        raise _unsound(filename, error) from error  # bz2


def _unsound(filename: str, error: Exception) -> ResolveFailed:
    reason = (str(error) or type(error).__name__).splitlines()[0][:300]
    return ResolveFailed(
        f"{filename} is not a sound wheel: {reason}",
        "Ask for another version of the package, or tell its makers.",
        code="bad_wheel",
    )


@dataclass(frozen=True, slots=True)
class Member:
    """A file inside a wheel, copied as it is."""

    wheel: str
    file: BinaryIO
    info: zipfile.ZipInfo

    @property
    def size(self) -> int:
        return self.info.file_size

    @property
    def identity(self) -> tuple[int, int]:
        return self.info.CRC, self.info.file_size

    def write_to(self, chain: GzipChain, flag: StopFlag) -> None:
        with sound(self.wheel):
            if self.info.compress_type == zipfile.ZIP_STORED:
                chain.add_stored(self._checked(self._raw(flag)))
            elif self.info.compress_size >= _SMALL:
                chain.add_deflated(partial(self._raw, flag), crc=self.info.CRC, size=self.size, name=self.wheel)
            else:
                chain.add(inflated(b"".join(self._raw(flag)), crc=self.info.CRC, size=self.size))

    def read(self, flag: StopFlag) -> bytes:
        """The whole file, for small ones."""
        with sound(self.wheel):
            data = b"".join(self._raw(flag))
            stored = self.info.compress_type == zipfile.ZIP_STORED
            return data if stored else inflated(data, crc=self.info.CRC, size=self.size)

    def _checked(self, chunks: Iterable[bytes]) -> Iterator[bytes]:
        """Of a member that lies there uncompressed."""
        crc = 0
        for chunk in chunks:
            crc = isal_zlib.crc32(chunk, crc)
            yield chunk
        if crc != self.info.CRC or self.info.compress_size != self.size:
            raise BadDeflate("size or checksum differ from what it says")

    def _raw(self, flag: StopFlag) -> Iterator[bytes]:
        """The member's bytes as they lie in the zip: https://pkware.cachefly.net/webdocs/casestudies/APPNOTE.TXT"""
        name = self._own_name()
        # One read for a small member: its header, what may stand between, and itself.
        start = self._read(self.info.header_offset, 30 + len(name) + _EXTRA + min(self.info.compress_size, _CHUNK))
        if start[:4] != b"PK\x03\x04":
            raise BadDeflate("a member's header is not where the directory says")
        name_size, extra = struct.unpack("<HH", start[26:30])
        if start[30 : 30 + name_size] != name:
            raise BadDeflate(f"{self.info.orig_filename[:200]} has another name in its own header")
        if self.info.flag_bits & _ENCRYPTED:
            raise BadDeflate(f"{self.info.filename[:200]} is encrypted")
        before = 30 + name_size + extra
        left, offset = self.info.compress_size, self.info.header_offset + before
        chunk = start[before : before + left]
        while left:
            flag.check()
            chunk = chunk or self._read(offset, min(left, _CHUNK))
            if not chunk:
                raise BadDeflate("the file ends too early")
            yield chunk
            left, offset = left - len(chunk), offset + len(chunk)
            chunk = b""

    def _read(self, offset: int, size: int) -> bytes:
        return os.pread(self.file.fileno(), size, offset)

    def _own_name(self) -> bytes:
        return self.info.orig_filename.encode("utf-8" if self.info.flag_bits & _UTF8 else "cp437")
