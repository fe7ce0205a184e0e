"""Wheels become entries of a layer, by the rules of the PyPA `installer`, without passing over the disk.

https://packaging.python.org/en/latest/specifications/binary-distribution-format/
"""

from __future__ import annotations

import base64
import csv
import hashlib
import os
import posixpath
import re
import stat
import zipfile
from collections.abc import Iterable, Iterator
from functools import cached_property
from pathlib import Path
from typing import IO, BinaryIO, Literal, cast

from installer import install
from installer.destinations import WheelDestination
from installer.records import Hash, RecordEntry
from installer.scripts import Script
from installer.sources import WheelContentElement, WheelFile
from installer.utils import Scheme, construct_record_file
from packaging.metadata import parse_email

from image_builder.image_path import fault
from image_builder.layers.tar import Bytes, Entry
from image_builder.layers.wheel_member import Member, sound
from image_builder.layers.zip_guard import GuardedFile, check_sizes

VENV = "opt/venv"
"""Where python finds the packages, relative to the image's root."""

_CARRIED = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)

_CHUNK = 1 << 16
_METADATA_MAX = 64 << 20
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
            self._file = GuardedFile(path)
            try:
                self._zip = zipfile.ZipFile(self._file)
                size = os.fstat(self._file.fileno()).st_size
                check_sizes(self._zip, size, carried=_CARRIED, held_max=_METADATA_MAX)
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
    with sound(path.name), GuardedFile(path) as file, zipfile.ZipFile(file) as opened:
        names = [name for name in opened.namelist() if re.fullmatch(r"[^/]+\.dist-info/METADATA", name)]
        raw = parse_email(opened.read(names[0]))[0] if names else {}
    said = raw.get("license_expression") or raw.get("license", "")
    if said and len(said.splitlines()) == 1 and len(said) <= _LICENSE_MAX and said.upper() != "UNKNOWN":
        return said.strip()
    classified = [row for row in raw.get("classifiers", []) if row.startswith("License ::")]
    return ", ".join(row.rpartition("::")[2].strip() for row in classified)[:_LICENSE_MAX] or None


class _Packed:
    """Stands for an open member where `installer` hands streams on: nothing is opened that need not be."""

    def __init__(self, opened: zipfile.ZipFile, info: zipfile.ZipInfo) -> None:
        self.info = info
        self._opened = opened

    def open(self) -> IO[bytes]:
        return self._opened.open(self.info)

    def read(self, size: int = -1) -> bytes:
        """From the start, at each call."""
        with self.open() as stream:
            return stream.read(size)


class _Source(WheelFile):
    """As `installer`'s, without bytecode: it belongs to the interpreter that runs, not to the wheel."""

    def __init__(self, opened: zipfile.ZipFile) -> None:
        super().__init__(opened)
        self.opened = opened

    def get_contents(self) -> Iterator[WheelContentElement]:
        for info in self.opened.infolist():
            if info.is_dir() or "__pycache__" in info.filename.split("/")[:-1]:
                continue
            self._check(info.filename)
            mode = info.external_attr >> 16
            executable = bool(mode and stat.S_ISREG(mode) and mode & 0o111)
            yield (info.filename, "", ""), cast("BinaryIO", _Packed(self.opened, info)), executable

    def _check(self, path: str) -> None:
        """Before `installer` sees it, which looks for ever for the folder that a path like `X.data` would be in."""
        wrong = "has a backslash" if "\\" in path else fault(path)
        if (
            not wrong
            and path.startswith(self.data_dir)
            and path.partition("/")[0] == self.data_dir
            and path.count("/") < 2
        ):
            wrong = "is in no folder that something could be installed from"
        if wrong:
            raise ValueError(f"{path[:200]!r} {wrong}")

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
        self._held = 0
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
        if not isinstance(stream, _Packed):
            return self._add_bytes(scheme, where, stream.read(), executable=is_executable)
        if scheme == "scripts":
            is_executable = True
            if stream.read(9).startswith(b"#!python"):
                code = _RELOCATABLE + stream.read(_METADATA_MAX + 1).partition(b"\n")[2]
                return self._add_bytes(scheme, where, code, executable=True)
        return self._add_member(scheme, where, stream, executable=is_executable)

    def finalize_installation(
        self, scheme: Scheme, record_file_path: object, records: Iterable[tuple[Scheme, RecordEntry]]
    ) -> None:
        with construct_record_file(records, prefix_for_scheme=self._prefix) as stream:
            self.entries.append(Entry(self._place(scheme, str(record_file_path)), content=Bytes(stream.read())))

    def _add_bytes(self, scheme: Scheme, path: str, data: bytes, *, executable: bool) -> RecordEntry:
        self._held += len(data)
        if self._held > _METADATA_MAX:
            raise ValueError(f"its scripts and such have more than {_METADATA_MAX} bytes")
        self.entries.append(Entry(self._place(scheme, path), mode=_mode(executable), content=Bytes(data)))
        return _record(path, data)

    def _add_member(self, scheme: Scheme, path: str, packed: _Packed, *, executable: bool) -> RecordEntry:
        info = packed.info
        if info.compress_type not in _CARRIED:
            return self._add_bytes(scheme, path, packed.read(_METADATA_MAX + 1), executable=executable)
        content = Member(self._source.opened.filename or "", self._file, info)
        self.entries.append(Entry(self._place(scheme, path), mode=_mode(executable), content=content))
        known = self._source.hashes.get(info.filename)
        return RecordEntry(path, known or _hash(packed), info.file_size)

    def _place(self, scheme: Scheme, path: str) -> str:
        """The path in the image; a wheel may write below its own folders only."""
        place = f"{self._folders[scheme]}/{path}"
        if wrong := fault(place):
            raise ValueError(f"it wants to write to {path[:200]!r}, which {wrong}")
        return place

    def _prefix(self, scheme: Scheme) -> str | None:
        """RECORD's paths are relative to site-packages."""
        folder = self._folders[scheme]
        return None if folder == self._site else posixpath.relpath(folder, self._site) + "/"


def _record(path: str, data: bytes) -> RecordEntry:
    return RecordEntry(path, _encoded(hashlib.sha256(data)), len(data))


def _hash(packed: _Packed) -> Hash:
    """Of a member that RECORD does not tell about."""
    digest = hashlib.sha256()
    with packed.open() as stream:
        while chunk := stream.read(_CHUNK):
            digest.update(chunk)
    return _encoded(digest)


def _encoded(digest: hashlib._Hash) -> Hash:
    """https://packaging.python.org/en/latest/specifications/recording-installed-packages/#the-record-file"""
    return Hash("sha256", base64.urlsafe_b64encode(digest.digest()).decode().rstrip("="))


def _mode(executable: bool) -> int:
    return 0o755 if executable else 0o644
