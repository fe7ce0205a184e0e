"""The files that a Dockerfile is built from, as they were when the plan was made. Blocking: runs in a thread."""

from __future__ import annotations

import hashlib
import os
import tarfile
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from image_builder.errors import SourceChanged
from image_builder.real_path import open_real
from image_builder.source_tree import SourceFile

DOCKERFILE = "Dockerfile"
_CHUNK = 1 << 20
_TIME = 1
_TYPES = {"file": tarfile.REGTYPE, "link": tarfile.SYMTYPE, "folder": tarfile.DIRTYPE}


@dataclass(frozen=True, slots=True)
class Context:
    """files: what `.dockerignore` leaves of `folder`, the Dockerfile among them. platform: `os/architecture`."""

    folder: Path
    files: Sequence[SourceFile]
    platform: str


def context_tar(context: Context) -> Generator[bytes, None, None]:
    """In pieces of about a megabyte, without owners and times: an engine's own cache then works.

    Raises:
        SourceChanged
    """
    batch = bytearray()
    for file in context.files:
        batch += _header(file)
        for chunk in _content(context.folder, file):
            batch += chunk
            if len(batch) >= _CHUNK:
                yield bytes(batch)
                batch.clear()
        batch += bytes(-_size(file) % tarfile.BLOCKSIZE)
    yield bytes(batch) + bytes(2 * tarfile.BLOCKSIZE)


def context_folder(context: Context, target: Path) -> None:
    """The same as a new folder.

    Raises:
        SourceChanged
    """
    target.mkdir()
    for file in context.files:
        path = target / file.path
        path.parent.mkdir(parents=True, exist_ok=True)
        if file.kind == "folder":
            path.mkdir(exist_ok=True)
        elif file.kind == "link":
            path.symlink_to(file.target)
        else:
            with path.open("xb") as out:
                for chunk in _content(context.folder, file):
                    out.write(chunk)
            path.chmod(file.mode)


def _header(file: SourceFile) -> bytes:
    info = tarfile.TarInfo(file.path)
    info.type, info.mode, info.mtime = _TYPES[file.kind], file.mode, _TIME
    info.linkname, info.size = file.target, _size(file)
    return info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")


def _size(file: SourceFile) -> int:
    return file.size if file.kind == "file" else 0


def _content(folder: Path, file: SourceFile) -> Iterator[bytes]:
    """Exactly the bytes that the plan saw."""
    if file.kind != "file":
        return
    digest, left = hashlib.sha256(), file.size
    try:
        descriptor = open_real(folder / file.path)
    except OSError as error:
        raise _changed(file) from error
    with os.fdopen(descriptor, "rb") as source:
        while left and (chunk := source.read(min(_CHUNK, left))):
            left -= len(chunk)
            digest.update(chunk)
            yield chunk
    if left or digest.hexdigest() != file.sha256:
        raise _changed(file)


def _changed(file: SourceFile) -> SourceChanged:
    return SourceChanged(
        f"{file.path} changed while the image was built", "It is tried again by itself with the new content."
    )
