"""A layer as an engine wrote it becomes a layer of ours. Blocking: runs in a thread."""

from __future__ import annotations

import fnmatch
import posixpath
import tarfile
from collections.abc import Iterator
from typing import IO, BinaryIO

from image_builder.layers.gzip_chain import GzipChain
from image_builder.layers.index import Layer
from image_builder.oci.layout import Layout
from image_builder.work import StopFlag

_TIME = 1
_CHUNK = 1 << 20
_SMALL = 1 << 16
_XATTR = "SCHILY.xattr."
"""How tar carries a file's extended attributes: ping's right to open a socket is one."""

_NOT_KEPT = (
    # Lent for the run, or mounted over by the engine.
    *(".cloud-deploy", ".cloud-deploy/*", "usr/sbin/policy-rc.d", ".dockerenv", "run/.containerenv"),
    *("etc/hosts", "etc/hostname", "etc/resolv.conf", "dev/*", "proc/*", "sys/*", "run/*", "tmp/*", "var/tmp/*"),
    # What apt and dpkg note for themselves: times, and copies of what was before.
    *("var/log/apt/*", "var/log/dpkg.log", "var/log/alternatives.log", "var/log/fontconfig.log"),
    *("var/lib/apt/lists/*", "var/cache/apt/*", "var/cache/ldconfig/aux-cache", "var/cache/man/*"),
    *("var/cache/debconf/*-old", "var/lib/dpkg/*-old", "etc/passwd-", "etc/group-", "etc/shadow-", "etc/gshadow-"),
    # Of one machine, made by chance; whoever needs them makes them when it starts.
    *("etc/machine-id", "var/lib/dbus/machine-id"),
)


def apt_layer(source: BinaryIO, layout: Layout, flag: StopFlag) -> Layer:
    """The diff that apt-get made, without what was only lent to it and without times, sorted.

    What a package's own scripts make by chance (keys of an ssh server, snake-oil certificates) stays as it is: such a
    layer differs each time it is made.
    """
    with (
        tarfile.open(fileobj=source, mode="r:") as tar,
        layout.writer() as writer,
        GzipChain(writer.write) as chain,
    ):
        for member, whole in _in_order(tar.getmembers()):
            flag.check()
            chain.add(_header(member))
            if whole is not None and whole.isreg():
                _copy(tar, whole, chain, flag)
        chain.add(bytes(2 * tarfile.BLOCKSIZE))
        diff_id = chain.close()
        return Layer(writer.commit(), diff_id, writer.size)


def carried_layer(source: BinaryIO, layout: Layout, flag: StopFlag) -> Layer:
    """The tar as it is, byte for byte, compressed."""
    with layout.writer() as writer, GzipChain(writer.write) as chain:
        chain.add_compressed(_chunks(source, flag))
        diff_id = chain.close()
        return Layer(writer.commit(), diff_id, writer.size)


def empty_layer(layout: Layout) -> Layer:
    """Of a list of packages that the base has already."""
    with layout.writer() as writer, GzipChain(writer.write) as chain:
        chain.add(bytes(2 * tarfile.BLOCKSIZE))
        diff_id = chain.close()
        return Layer(writer.commit(), diff_id, writer.size)


def _in_order(members: list[tarfile.TarInfo]) -> Iterator[tuple[tarfile.TarInfo, tarfile.TarInfo | None]]:
    """(header, where its bytes are) by path; of hard links to one file the first carries the bytes."""
    by_path = {_path(member): member for member in members}
    carriers: dict[str, str] = {}
    for path in sorted(by_path):
        member = by_path[path]
        if _dropped(path):
            continue
        original = posixpath.normpath(member.linkname).lstrip("/") if member.islnk() else path
        carrier = carriers.setdefault(original, path)
        if carrier == path:
            whole = by_path[original]
            yield _renamed(whole, path, ""), whole
        else:
            yield _renamed(member, path, carrier), None


def _renamed(member: tarfile.TarInfo, path: str, carrier: str) -> tarfile.TarInfo:
    info = tarfile.TarInfo(path)
    info.type, info.mode, info.uid, info.gid = member.type, member.mode, member.uid, member.gid
    info.linkname, info.size, info.mtime = member.linkname, member.size, _TIME
    info.devmajor, info.devminor = member.devmajor, member.devminor
    info.pax_headers = {name: value for name, value in member.pax_headers.items() if name.startswith(_XATTR)}
    if carrier:
        info.type, info.linkname, info.size = tarfile.LNKTYPE, carrier, 0
    return info


def _header(info: tarfile.TarInfo) -> bytes:
    return info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")


def _copy(tar: tarfile.TarFile, member: tarfile.TarInfo, chain: GzipChain, flag: StopFlag) -> None:
    file = tar.extractfile(member)
    if file is None:
        raise ValueError(f"{member.name} has no content")
    if member.size < _SMALL:
        chain.add(file.read())
    else:
        chain.add_compressed(_chunks(file, flag))
    chain.add(bytes(-member.size % tarfile.BLOCKSIZE))


def _chunks(file: IO[bytes], flag: StopFlag) -> Iterator[bytes]:
    while chunk := file.read(_CHUNK):
        flag.check()
        yield chunk


def _path(member: tarfile.TarInfo) -> str:
    return posixpath.normpath(member.name).lstrip("/")


def _dropped(path: str) -> bool:
    """What says that a file of the base is gone (`.wh.`) stays."""
    whiteout = posixpath.basename(path).startswith(".wh.")
    return path == "." or (not whiteout and _matches(path))


def _matches(path: str) -> bool:
    return any(fnmatch.fnmatchcase(path, pattern) for pattern in _NOT_KEPT)
