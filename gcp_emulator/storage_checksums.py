"""md5 and crc32c of what streams by, and whether they are what the client says.

https://cloud.google.com/storage/docs/data-validation
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import google_crc32c

from gcp_emulator.storage_errors import invalid

PIECE = 1 << 20
"""Bytes of a file in memory at once."""


@dataclass(frozen=True)
class Sums:
    size: int
    crc32c: str
    """base64 of the big-endian sum, as Cloud Storage writes it."""
    md5: str | None
    """base64; None for a composed object, which has none."""


class Summing:
    """Of bytes that are given piece by piece."""

    def __init__(self) -> None:
        self._md5 = hashlib.md5(usedforsecurity=False)
        self._crc = 0
        self.size = 0

    def update(self, piece: bytes) -> None:
        self._md5.update(piece)
        self._crc = google_crc32c.extend(self._crc, piece)
        self.size += len(piece)

    def done(self) -> Sums:
        return Sums(self.size, base64_of(self._crc.to_bytes(4, "big")), base64_of(self._md5.digest()))


@dataclass(frozen=True)
class Expected:
    """What the client says that the sums are; None: it does not."""

    crc32c: str | None = None
    md5: str | None = None

    @classmethod
    def of(cls, metadata: Mapping[str, Any], headers: Mapping[str, str]) -> Expected:
        """From the object's metadata, or the headers X-Goog-Hash and Content-MD5."""
        named = dict(part.strip().split("=", 1) for part in headers.get("x-goog-hash", "").split(",") if "=" in part)
        return cls(
            metadata.get("crc32c") or named.get("crc32c"),
            metadata.get("md5Hash") or named.get("md5") or headers.get("content-md5"),
        )

    def or_else(self, other: Expected) -> Expected:
        return Expected(self.crc32c or other.crc32c, self.md5 or other.md5)

    def check(self, sums: Sums) -> None:
        """Raises StorageError 400: nothing is stored then."""
        if self.crc32c is not None and self.crc32c != sums.crc32c:
            raise invalid(f'Provided CRC32C "{self.crc32c}" doesn\'t match calculated CRC32C "{sums.crc32c}".')
        if self.md5 is not None and sums.md5 is not None and self.md5 != sums.md5:
            raise invalid(f'Provided MD5 hash "{self.md5}" doesn\'t match calculated MD5 hash "{sums.md5}".')


def pieces(path: Path, start: int = 0, end: int | None = None) -> Iterator[bytes]:
    """Bytes `start` to before `end` of a file."""
    left = end - start if end is not None else None
    with path.open("rb") as file:
        file.seek(start)
        while left is None or left > 0:
            piece = file.read(PIECE if left is None else min(PIECE, left))
            if not piece:
                return
            left = None if left is None else left - len(piece)
            yield piece


def sums_of(path: Path, size: int) -> Summing:
    """Of the first `size` bytes of a file, ready to go on."""
    summing = Summing()
    for piece in pieces(path, 0, size):
        summing.update(piece)
    return summing


def base64_of(value: bytes) -> str:
    return base64.b64encode(value).decode()
