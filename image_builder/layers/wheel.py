"""Wheels become entries of a layer, by the rules of the PyPA `installer`, without passing over the disk.

https://packaging.python.org/en/latest/specifications/binary-distribution-format/
"""

from __future__ import annotations

import contextlib
import csv
import io
import os
import posixpath
import re
import struct
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import BinaryIO, Literal, cast

from installer import install
from installer.destinations import WheelDestination
from installer.exceptions import InstallerError
from installer.records import Hash, RecordEntry
from installer.scripts import Script
from installer.sources import WheelContentElement, WheelFile
from installer.utils import Scheme, construct_record_file, copyfileobj_with_hashing
from packaging.metadata import parse_email

from image_builder.errors import ResolveFailed
from image_builder.layers.gzip_chain import BadDeflate, GzipChain, inflated
from image_builder.layers.tar import Bytes, Entry
from image_builder.work import StopFlag

VENV = "opt/venv"
"""Where python finds the packages, relative to the image's root."""

_CARRIED = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)

_SMALL = 1024
"""Members of fewer compressed bytes are inflated and compressed together with their neighbours."""
_CHUNK = 1 << 18
_METADATA_MAX = 64 << 20
_UNPACKED_MAX = 64 << 30
_LICENSE_MAX = 200
_INSTALLER = b"cloud-deploy\n"

# Runs the interpreter beside the script, wherever the folder lies. For sh the second line is a command; for python
# it begins a string that ends in the third.
_RELOCATABLE = b"""#!/bin/sh
'''exec' "$(dirname -- "$(realpath -- "$0")")/python" "$0" "$@"
' '''
"""


def site_packages(python: str) -> str:
    """The folder of packages for python X.Y, relative to the image's root."""
    return f"{VENV}/lib/python{python}/site-packages"


class Wheel:
    """An opened wheel file. Close it after its entries have been written."""

    def __init__(self, path: Path, filename: str, python: str) -> None:
        """`path`: where the bytes are; `filename`: the wheel's own name, which says what it is; `python`: X.Y."""
        self.filename = filename
        self._python = python
        with sound(self.filename):
            self._file = path.open("rb")
            try:
                self._zip = zipfile.ZipFile(self._file)
                _check_sizes(self._zip)
            except BaseException:
                self._file.close()
                raise

    def close(self) -> None:
        self._zip.close()
        self._file.close()

    def entries(self) -> list[Entry]:
        """What this wheel installs.

        Raises:
            ResolveFailed: code bad_wheel, the file is not a sound wheel.
        """
        with sound(self.filename):
            self._zip.filename = self.filename
            source = _Source(self._zip)
            destination = _Collector(source, self._python, self._file)
            install(source, destination, {"INSTALLER": _INSTALLER})
            return destination.entries


def license_of(path: Path) -> str | None:
    """In one line, in the words of the wheel's METADATA; None if it says nothing that fits one line.

    https://packaging.python.org/en/latest/specifications/core-metadata/#license-expression

    Raises:
        ResolveFailed: code bad_wheel. FileNotFoundError
    """
    with sound(path.name), zipfile.ZipFile(path) as opened:
        names = [name for name in opened.namelist() if re.fullmatch(r"[^/]+\.dist-info/METADATA", name)]
        raw = parse_email(opened.read(names[0]))[0] if names else {}
    said = raw.get("license_expression") or raw.get("license", "")
    if said and len(said.splitlines()) == 1 and len(said) <= _LICENSE_MAX and said.upper() != "UNKNOWN":
        return said.strip()
    classified = [row for row in raw.get("classifiers", []) if row.startswith("License ::")]
    return ", ".join(row.rpartition("::")[2].strip() for row in classified)[:_LICENSE_MAX] or None


@contextlib.contextmanager
def sound(filename: str) -> Iterator[None]:
    """Turn what an unsound wheel makes zipfile and installer raise into one error that names it."""
    try:
        yield
    except (
        zipfile.BadZipFile,
        InstallerError,
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
        reason = (str(error) or type(error).__name__).splitlines()[0][:300]
        raise ResolveFailed(
            f"{filename} is not a sound wheel: {reason}",
            "Ask for another version of the package, or tell its makers.",
            code="bad_wheel",
        ) from error


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
            chunks = self._raw(flag)
            if self.info.compress_type == zipfile.ZIP_STORED:
                chain.add_stored(chunks)
            elif self.info.compress_size >= _SMALL:
                chain.add_deflated(chunks, crc=self.info.CRC, size=self.size)
            else:
                chain.add(inflated(b"".join(chunks), crc=self.info.CRC, size=self.size))

    def read(self, flag: StopFlag) -> bytes:
        """The whole file, for small ones."""
        with sound(self.wheel):
            data = b"".join(self._raw(flag))
            stored = self.info.compress_type == zipfile.ZIP_STORED
            return data if stored else inflated(data, crc=self.info.CRC, size=self.size)

    def _raw(self, flag: StopFlag) -> Iterator[bytes]:
        """The member's bytes as they lie in the zip: https://pkware.cachefly.net/webdocs/casestudies/APPNOTE.TXT"""
        self.file.seek(self.info.header_offset)
        header = self.file.read(30)
        if header[:4] != b"PK\x03\x04":
            raise BadDeflate("a member's header is not where the directory says")
        name, extra = struct.unpack("<HH", header[26:30])
        self.file.seek(name + extra, 1)
        left = self.info.compress_size
        while left:
            flag.check()
            chunk = self.file.read(min(left, _CHUNK))
            if not chunk:
                raise BadDeflate("the file ends too early")
            left -= len(chunk)
            yield chunk


class _Source(WheelFile):
    """As `installer`'s, without bytecode: it belongs to the interpreter that runs, not to the wheel."""

    def __init__(self, opened: zipfile.ZipFile) -> None:
        super().__init__(opened)
        self.opened = opened

    def get_contents(self) -> Iterator[WheelContentElement]:
        for record, stream, executable in super().get_contents():
            if "__pycache__" not in record[0].split("/")[:-1]:
                yield record, stream, executable

    @cached_property
    def hashes(self) -> dict[str, Hash]:
        rows = csv.reader(self.read_dist_info("RECORD").splitlines())
        return {row[0]: Hash.parse(row[1]) for row in rows if len(row) == 3 and row[1]}


class _Collector(WheelDestination):
    """Where `installer` writes to: a list of entries."""

    def __init__(self, source: _Source, python: str, file: BinaryIO) -> None:
        self.entries: list[Entry] = []
        self._source = source
        self._file = file
        site = site_packages(python)
        self._site = site
        self._folders = {
            "purelib": site,
            "platlib": site,
            "scripts": f"{VENV}/bin",
            "data": VENV,
            "headers": f"{VENV}/include/site/python{python}/{source.distribution}",
        }

    def write_script(self, name: str, module: str, attr: str, section: Literal["console", "gui"]) -> RecordEntry:
        text = Script(name, module, attr, section).generate("/python", "posix")[1]
        code = _RELOCATABLE + text.partition(b"\n")[2]
        return self._add_bytes(Scheme("scripts"), name, code, executable=True)

    def write_file(self, scheme: Scheme, path: object, stream: BinaryIO, is_executable: bool) -> RecordEntry:
        where = str(path)
        if not isinstance(stream, zipfile.ZipExtFile):
            return self._add_bytes(scheme, where, stream.read(), executable=is_executable)
        if scheme == "scripts":
            is_executable = True
            if stream.peek(9).startswith(b"#!python"):
                code = _RELOCATABLE + stream.read(_METADATA_MAX).partition(b"\n")[2]
                return self._add_bytes(scheme, where, code, executable=True)
        return self._add_member(scheme, where, stream, executable=is_executable)

    def finalize_installation(
        self, scheme: Scheme, record_file_path: object, records: Iterable[tuple[Scheme, RecordEntry]]
    ) -> None:
        with construct_record_file(records, prefix_for_scheme=self._prefix) as stream:
            self.entries.append(Entry(self._place(scheme, str(record_file_path)), content=Bytes(stream.read())))

    def _add_bytes(self, scheme: Scheme, path: str, data: bytes, *, executable: bool) -> RecordEntry:
        self.entries.append(Entry(self._place(scheme, path), mode=_mode(executable), content=Bytes(data)))
        return _record(path, data)

    def _add_member(self, scheme: Scheme, path: str, stream: zipfile.ZipExtFile, *, executable: bool) -> RecordEntry:
        info = self._source.opened.getinfo(stream.name)
        known = self._source.hashes.get(info.filename)
        if info.compress_type not in _CARRIED:
            return self._add_bytes(scheme, path, stream.read(), executable=executable)
        content = Member(self._source.opened.filename or "", self._file, info)
        self.entries.append(Entry(self._place(scheme, path), mode=_mode(executable), content=content))
        return RecordEntry(path, known or _hash(cast("BinaryIO", stream)), info.file_size)

    def _place(self, scheme: Scheme, path: str) -> str:
        """The path in the image; a wheel may write below its own folders only."""
        parts = path.split("/")
        if not path or path.startswith("/") or "\0" in path or "\\" in path or {"", ".", ".."} & set(parts):
            raise ValueError(f"it wants to write to {path[:200]!r}")
        return f"{self._folders[scheme]}/{path}"

    def _prefix(self, scheme: Scheme) -> str | None:
        """RECORD's paths are relative to site-packages."""
        folder = self._folders[scheme]
        return None if folder == self._site else posixpath.relpath(folder, self._site) + "/"


def _check_sizes(opened: zipfile.ZipFile) -> None:
    """A zip bomb is known by what it declares; that it holds no more than that is checked while it is read."""
    if sum(info.file_size for info in opened.infolist()) > _UNPACKED_MAX:
        raise ValueError(f"it unpacks to more than {_UNPACKED_MAX >> 30} GiB")
    for info in opened.infolist():
        held = ".dist-info/" in info.filename or info.compress_type not in _CARRIED
        if held and info.file_size > _METADATA_MAX:
            raise ValueError(f"{info.filename[:200]} has {info.file_size} bytes")


def _record(path: str, data: bytes) -> RecordEntry:
    return RecordEntry(path, _hash(io.BytesIO(data)), len(data))


def _hash(stream: BinaryIO) -> Hash:
    with Path(os.devnull).open("wb") as nowhere:
        return Hash("sha256", copyfileobj_with_hashing(stream, nowhere, "sha256")[0])


def _mode(executable: bool) -> int:
    return 0o755 if executable else 0o644
