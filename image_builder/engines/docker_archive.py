"""`docker save` and `docker load`'s own archive. Docker before 25 reads no OCI archive; all read this.

https://github.com/moby/docker-image-spec/blob/main/v1.2.md
"""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, TypeVar

from image_builder.oci.base import BaseLayer
from image_builder.oci.compression import is_gzip, open_tar
from image_builder.oci.image import digest_of
from image_builder.oci.layout import Layout

_CHUNK = 1 << 20

T = TypeVar("T")


def archive(config: bytes, layers: Sequence[BaseLayer], layout: Layout, tag: str) -> Generator[bytes, None, None]:
    """The archive of an image whose layers are in the layout, in pieces. Blocking. Gzip layers go as they are: every
    engine looks at their first bytes. Others go plain, since Docker before 23 does not know zstd.
    """
    name = f"{digest_of(config).removeprefix('sha256:')}.json"
    rows = [f"{layer.digest.removeprefix('sha256:')}.tar" for layer in layers]
    manifest = json.dumps([{"Config": name, "RepoTags": [tag], "Layers": rows}]).encode()
    for path, data in ((name, config), ("manifest.json", manifest)):
        yield _header(path, len(data)) + data + _padding(len(data))
    for path, layer in dict(zip(rows, layers, strict=True)).items():
        yield from _file(path, layout.path(layer.digest))
    yield bytes(2 * tarfile.BLOCKSIZE)


def _file(name: str, blob: Path) -> Iterator[bytes]:
    with blob.open("rb") if is_gzip(blob) else open_tar(blob) as file:
        size = file.seek(0, io.SEEK_END)
        file.seek(0)
        yield _header(name, size)
        while chunk := file.read(_CHUNK):
            yield chunk
    yield _padding(size)


@dataclass(frozen=True, slots=True)
class Saved:
    """What is in an archive. config: as the engine wrote it. paths: of the layers' tars, lowest first."""

    config: bytes
    paths: tuple[str, ...]


def contents(path: Path) -> Saved:
    """Of an archive with one image. Blocking."""
    with tarfile.open(path, "r:") as tar:
        (row,) = json.loads(_member(tar, "manifest.json").read())
        return Saved(_member(tar, row["Config"]).read(), tuple(row["Layers"]))


def layer_from(path: Path, member: str, make: Callable[[BinaryIO], T]) -> T:
    """What `make` makes of one layer's tar. Blocking."""
    with tarfile.open(path, "r:") as tar:
        return make(_member(tar, member))


def small_tar(files: Sequence[tuple[str, bytes, int]]) -> bytes:
    """(path, content, mode) as a tar, to be put into a container; a folder's path ends in `/`."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for path, data, mode in files:
            info = tarfile.TarInfo(path.strip("/"))
            info.type = tarfile.DIRTYPE if path.endswith("/") else tarfile.REGTYPE
            info.size, info.mode = len(data), mode
            tar.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def _member(tar: tarfile.TarFile, name: str) -> BinaryIO:
    """Docker 20 saves a layer that is there twice as a link to the first."""
    file = tar.extractfile(name)
    if file is None:
        raise ValueError(f"the archive's {name} is no file")
    return file  # type: ignore[return-value]


def _header(path: str, size: int) -> bytes:
    info = tarfile.TarInfo(path)
    info.size = size
    return info.tobuf(tarfile.PAX_FORMAT)


def _padding(size: int) -> bytes:
    return bytes(-size % tarfile.BLOCKSIZE)
