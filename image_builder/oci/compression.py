"""A layer's tar, however the layer is compressed. Blocking."""

from __future__ import annotations

import gzip
import sys
import tarfile
import zlib
from pathlib import Path
from typing import BinaryIO, cast

from isal import igzip, isal_zlib

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

_GZIP = b"\x1f\x8b"
_ZSTD = b"\x28\xb5\x2f\xfd"
_SKIPPABLE = b"\x2a\x4d\x18"
"""Bytes 1 to 3 of a frame that holds no data, which may come first: RFC 8878, section 3.1.2."""

_ISAL = cast("type[Exception]", isal_zlib.error)  # a class, whatever its stub says
BROKEN: tuple[type[Exception], ...] = (
    zlib.error,
    _ISAL,
    gzip.BadGzipFile,
    zstd.ZstdError,
    EOFError,
    tarfile.TarError,
    ValueError,
)
"""What reading the tar of a damaged layer raises."""


def open_tar(path: Path) -> BinaryIO:
    """The plain bytes. Judged by the first bytes, as engines do: a media type may be wrong."""
    with path.open("rb") as raw:
        start = raw.read(4)
    if start.startswith(_GZIP):
        # gzip, not tarfile's own reader: that one stops after the first member of a chain.
        return cast("BinaryIO", igzip.open(path, "rb"))  # type: ignore[no-untyped-call]
    if start == _ZSTD or start[1:] == _SKIPPABLE:
        return cast("BinaryIO", zstd.open(path, "rb"))
    return path.open("rb")


def is_gzip(path: Path) -> bool:
    with path.open("rb") as raw:
        return raw.read(2) == _GZIP
