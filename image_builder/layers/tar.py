"""A layer's tar: sorted, owned by root, without times, each path once, so that the same content has the same bytes."""

from __future__ import annotations

import os
import posixpath
import tarfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal, Protocol

from image_builder.layers.gzip_chain import GzipChain
from image_builder.oci.base_tree import Folder
from image_builder.work import StopFlag

_TIME = 1
"""Seconds since 1970. Not 0: some programs take that for "unknown"."""

_NAME, _SIZE = 100, 8**11
"""Beyond these a header needs an extension."""
_END = bytes(100) + b"ustar\x0000" + bytes(247)
_END_SUM = sum(_END) + 8 * ord(" ")
"""The checksum's own place counts as spaces."""

_TYPES = {"file": tarfile.REGTYPE, "link": tarfile.SYMTYPE, "folder": tarfile.DIRTYPE}


class Content(Protocol):
    """The bytes of a file, written straight to the layer."""

    @property
    def size(self) -> int:
        """Bytes, uncompressed; exactly so many are written."""
        ...

    def write_to(self, chain: GzipChain, flag: StopFlag) -> None: ...


@dataclass(frozen=True, slots=True)
class Bytes:
    """Content held in memory."""

    data: bytes

    @property
    def size(self) -> int:
        return len(self.data)

    def write_to(self, chain: GzipChain, flag: StopFlag) -> None:
        flag.check()
        chain.add(self.data)


@dataclass(frozen=True, slots=True)
class Entry:
    """One path of a layer: relative to the image's root, with `/`, normalised."""

    path: str
    kind: Literal["file", "link", "folder"] = "file"
    mode: int = 0o644
    content: Content = Bytes(b"")
    target: str = ""


class PathConflict(ValueError):
    """Two entries claim the same path, or one lies below another's file."""


def write_tar(
    entries: Iterable[Entry], chain: GzipChain, flag: StopFlag, folders: Mapping[str, Folder] | None = None
) -> None:
    """Write entries and their parent folders, each path once: container engines refuse a layer that names one twice.

    Args:
        folders: those that lower layers have with another mode or owner than ours; these are kept.

    Raises:
        PathConflict
    """
    kinds: dict[str, str] = {}
    known = folders or {}
    for entry in sorted(entries, key=lambda entry: os.fsencode(entry.path)):
        for folder in _parents(entry.path):
            if kinds.setdefault(folder, "new") == "new":
                kinds[folder] = "folder"
                chain.add(header(Entry(folder, "folder", 0o755), known.get(folder)))
            elif kinds[folder] != "folder":
                raise PathConflict(f"{entry.path} lies below {folder}, which is a file")
        if entry.path in kinds:
            if entry.kind == kinds[entry.path] == "folder":
                continue
            raise PathConflict(f"{entry.path} is there twice")
        kinds[entry.path] = entry.kind
        _write(entry, chain, flag, known.get(entry.path))
    chain.add(bytes(2 * tarfile.BLOCKSIZE))


def _write(entry: Entry, chain: GzipChain, flag: StopFlag, known: Folder | None) -> None:
    flag.check()
    chain.add(header(entry, known))
    start = chain.size
    if entry.kind == "file":
        entry.content.write_to(chain, flag)
    written = chain.size - start
    if written != (entry.content.size if entry.kind == "file" else 0):
        raise ValueError(f"{entry.path}: {written} bytes written, {entry.content.size} announced")
    chain.add(bytes(-written % tarfile.BLOCKSIZE))


def header(entry: Entry, known: Folder | None) -> bytes:
    """known: how lower layers have the folder of this entry."""
    mode, uid, gid = entry.mode if entry.kind != "link" else 0o777, 0, 0
    if known is not None and entry.kind == "folder":
        mode, uid, gid = known.mode, known.uid, known.gid
    size = entry.content.size if entry.kind == "file" else 0
    if entry.path.isascii() and not entry.target and size < _SIZE and not uid and not gid:
        return _plain_header(entry.path.encode(), _TYPES[entry.kind], mode, size)
    info = tarfile.TarInfo(entry.path)
    info.type, info.mode, info.uid, info.gid, info.size = _TYPES[entry.kind], mode, uid, gid, size
    info.mtime = _TIME
    info.linkname = entry.target
    # PAX: plain ustar unless a name or size does not fit, then one extended header before it.
    return info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")


def _plain_header(path: bytes, kind: bytes, mode: int, size: int) -> bytes:
    """As tarfile makes it for what is root's and has no target, in a tenth of the time: packages have thousands.

    https://pubs.opengroup.org/onlinepubs/9699919799/utilities/pax.html#tag_20_92_13_06
    """
    if kind == tarfile.DIRTYPE:
        path += b"/"
    if len(path) <= _NAME:
        return _block(path, kind, mode, size, _TIME)
    record = _pax_record(b"path", path)
    padding = bytes(-len(record) % tarfile.BLOCKSIZE)
    extension = _block(b"././@PaxHeader", tarfile.XHDTYPE, 0, len(record), 0)
    return extension + record + padding + _block(path[:_NAME], kind, mode, size, _TIME)


def _pax_record(key: bytes, value: bytes) -> bytes:
    """`length key=value`; the length counts itself."""
    rest = b" %b=%b\n" % (key, value)
    length = len(rest)
    while length != len(rest) + len(str(length)):
        length = len(rest) + len(str(length))
    return b"%d%b" % (length, rest)


def _block(path: bytes, kind: bytes, mode: int, size: int, time: int) -> bytes:
    start = b"%b%07o\0%07o\0%07o\0%011o\0%011o\0" % (path.ljust(_NAME, b"\0"), mode, 0, 0, size, time)
    end = kind + _END
    return b"%b%06o\0 %b" % (start, sum(start) + kind[0] + _END_SUM, end)


def _parents(path: str) -> list[str]:
    parts = posixpath.dirname(path).split("/")
    return ["/".join(parts[: count + 1]) for count in range(len(parts)) if parts[0]]
