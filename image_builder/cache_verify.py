"""Bytes that are no longer what their names say: a torn disk, bit rot. Blocking: call it in a thread."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

from image_builder.cache import Cache, shown
from image_builder.contract import CacheThing
from image_builder.work import StopFlag

_CHUNK = 1 << 20


def verify(cache: Cache, folder: Path, flag: StopFlag, *, dry_run: bool) -> tuple[int, list[CacheThing]]:
    """Read all blobs and wheels, and remove those that are corrupt. How many were read; what is, or would be, gone.

    Raises:
        OSError: a file cannot be read; what was found before is gone.
    """
    count, corrupt = 0, list[CacheThing]()
    if not dry_run and cache.mend_index():
        corrupt.append(CacheThing(kind="other", name="images/index.json", size=0, used=0.0, why="corrupt"))
    for file in cache.files("blob", "wheel"):
        try:
            inode, digest = _read(folder / file.name, flag)
        except FileNotFoundError:
            continue  # cleared meanwhile
        count += 1
        if digest != Path(file.name).stem and (dry_run or cache.remove_corrupt(file, inode)):
            corrupt.append(
                CacheThing(kind=file.kind, name=shown(file.name), size=file.size, used=file.used, why="corrupt")
            )
    return count, corrupt


def _read(path: Path, flag: StopFlag) -> tuple[int, str]:
    """Inode and sha256."""
    digest = hashlib.sha256()
    with path.open("rb", buffering=0) as file:
        for chunk in _chunks(file.fileno()):
            flag.check()
            digest.update(chunk)
        return os.fstat(file.fileno()).st_ino, digest.hexdigest()


def _chunks(descriptor: int) -> Iterator[bytes]:
    while chunk := os.read(descriptor, _CHUNK):
        yield chunk
