"""Zip files from anywhere: opened without filling the memory, and refused where they declare the impossible."""

from __future__ import annotations

import io
import os
import zipfile
from collections.abc import Collection
from pathlib import Path

_DIRECTORY_MAX = 64 << 20
_MEMBERS_MAX = 200_000
"""The largest wheels have some tens of thousands."""
_UNPACKED_MAX = 64 << 30
_HEADER = b"PK\x01\x02"


class GuardedFile(io.BufferedReader):
    """A file for `zipfile`, which reads the directory at one go and makes an object of each member.

    https://pkware.cachefly.net/webdocs/casestudies/APPNOTE.TXT
    """

    def __init__(self, path: Path) -> None:
        super().__init__(io.FileIO(path))
        self._size = os.fstat(self.fileno()).st_size

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        """Raises:
        ValueError: the directory says that something lies before the file or behind it.
        """
        if whence == io.SEEK_SET and not 0 <= offset <= self._size:
            raise ValueError("a member lies outside of the file")
        return super().seek(offset, whence)

    def read(self, size: int | None = -1, /) -> bytes:
        """Raises:
        ValueError: what is asked for at one go is more than any directory needs.
        """
        if size is not None and size > _DIRECTORY_MAX:
            raise ValueError(f"its directory has {size} bytes")
        data = super().read(size)
        if len(data) > _MEMBERS_MAX * len(_HEADER) and data.count(_HEADER) > _MEMBERS_MAX:
            raise ValueError(f"it has more than {_MEMBERS_MAX} members")
        return data


def check_sizes(opened: zipfile.ZipFile, size: int, *, carried: Collection[int], held_max: int) -> None:
    """A zip bomb is known by what it declares; that it holds no more than that is checked while it is read.

    Args:
        size: bytes of the whole file.
        carried: the kinds of compression whose members never pass through the memory whole.
        held_max: bytes that all others may have together, and each file of the dist-info.

    Raises:
        ValueError
    """
    members = opened.infolist()
    if sum(info.file_size for info in members) > _UNPACKED_MAX:
        raise ValueError(f"it unpacks to more than {_UNPACKED_MAX >> 30} GiB")
    if any(not 0 <= info.header_offset <= size for info in members):
        raise ValueError("a member lies outside of the file")
    if sum(info.compress_size for info in members) > size:
        raise ValueError("its members overlap")
    if (held := sum(info.file_size for info in members if info.compress_type not in carried)) > held_max:
        raise ValueError(f"it has {held} bytes in compressions that are out of use")
    for info in members:
        if ".dist-info/" in info.filename and info.file_size > _largest(info, held_max):
            raise ValueError(f"{info.filename[:200]} has {info.file_size} bytes")


def _largest(info: zipfile.ZipInfo, held_max: int) -> int:
    """What is parsed whole costs many times its size."""
    return 1 << 20 if info.filename.endswith(("/entry_points.txt", "/WHEEL")) else held_max
