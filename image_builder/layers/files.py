"""The project's files as layers: the program, the weights, and what starts them."""

from __future__ import annotations

import hashlib
import json
import os
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.resources import files as package_files
from pathlib import Path

from image_builder.errors import SourceChanged
from image_builder.layers.gzip_chain import GzipChain
from image_builder.layers.tar import Bytes, Entry
from image_builder.real_path import open_real
from image_builder.source_tree import SourceFile
from image_builder.work import StopFlag

LAUNCHER = "opt/cloud-deploy"
"""Folder of the start-up program, relative to the image's root."""

_CHUNK = 1 << 20
_SMALL = 1 << 16
"""Smaller files are compressed together with their neighbours."""
_SAMPLE = 1 << 14
_WORTH = 0.9
"""Larger files are compressed if samples of them shrink below this ratio; weights mostly do not."""


@dataclass(frozen=True, slots=True)
class DiskFile:
    """A project file, which must still be what it was when the plan was made."""

    root: Path
    file: SourceFile

    @property
    def size(self) -> int:
        return self.file.size

    def write_to(self, chain: GzipChain, flag: StopFlag) -> None:
        """Raises:
        SourceChanged: size or content differ from the plan's.
        """
        chunks = self._verified(flag)
        if self.size < _SMALL:
            chain.add(b"".join(chunks))
        elif self._compressible():
            chain.add_compressed(chunks, level=1)
        else:
            chain.add_stored(chunks)

    def _verified(self, flag: StopFlag) -> Iterator[bytes]:
        digest, left = hashlib.sha256(), self.size
        for chunk in self._chunks():
            flag.check()
            left -= len(chunk)
            digest.update(chunk)
            if left < 0:
                break
            yield chunk
        if left != 0 or digest.hexdigest() != self.file.sha256:
            raise self._changed()

    def _chunks(self) -> Iterator[bytes]:
        descriptor = self._open()
        try:
            while chunk := os.read(descriptor, _CHUNK):
                yield chunk
        finally:
            os.close(descriptor)

    def _compressible(self) -> bool:
        """By its start, middle and end: the same bytes are always judged alike."""
        descriptor = self._open()
        try:
            starts = (0, (self.size - _SAMPLE) // 2, self.size - _SAMPLE)
            sample = b"".join(os.pread(descriptor, _SAMPLE, start) for start in starts)
        finally:
            os.close(descriptor)
        return len(zlib.compress(sample, 1)) < _WORTH * len(sample)

    def _open(self) -> int:
        try:
            return open_real(self.root / self.file.path)
        except OSError as error:
            raise self._changed() from error

    def _changed(self) -> SourceChanged:
        return SourceChanged(
            f"{self.file.path} changed while the image was built", "It is tried again by itself with the new content."
        )


def file_entries(root: Path, files: Sequence[SourceFile], workdir: str) -> list[Entry]:
    """Entries of project files below `workdir` (absolute), which exists even if there are none."""
    top = workdir.strip("/")
    entries = [Entry(top, "folder", 0o755)]
    for file in files:
        path = f"{top}/{file.path}"
        if file.kind == "file":
            entries.append(Entry(path, "file", file.mode, DiskFile(root, file)))
        else:
            entries.append(Entry(path, file.kind, file.mode, target=file.target))
    return entries


def launcher_entries(pre_exec: Sequence[Sequence[str]], entrypoint: Sequence[str]) -> list[Entry]:
    """The program that runs `pre_exec` and then becomes the entrypoint, and its list, which no shell ever sees."""
    program = package_files("image_builder.layers").joinpath("launch.py").read_bytes()
    wishes = {"pre_exec": [list(argv) for argv in pre_exec], "entrypoint": list(entrypoint)}
    return [
        Entry(f"{LAUNCHER}/launch.json", content=Bytes(json.dumps(wishes, indent=1).encode() + b"\n")),
        Entry(f"{LAUNCHER}/launch.py", content=Bytes(program)),
    ]
