"""A build's source as one archive, always the same bytes for the same files. Blocking."""

from __future__ import annotations

import gzip
import io
import tarfile
from collections.abc import Generator
from pathlib import Path

from image_builder.engines.context import DOCKERFILE, Context, context_tar
from image_builder.work import StopFlag

_LEVEL = 1
"""The network is mostly faster than more."""


def pack(chunks: Generator[bytes, None, None], target: Path, flag: StopFlag) -> None:
    """Raises SourceChanged, OSError."""
    try:
        with target.open("wb") as raw, gzip.GzipFile("", "wb", _LEVEL, raw, mtime=0) as packed:
            for chunk in chunks:
                flag.check()
                packed.write(chunk)
    finally:
        chunks.close()


def chunks_of(source: Context | str) -> Generator[bytes, None, None]:
    """The tar of a context, or of a Dockerfile's text alone."""
    if isinstance(source, Context):
        yield from context_tar(source)
    else:
        yield _tar_of(source.encode())


def _tar_of(dockerfile: bytes) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        member = tarfile.TarInfo(DOCKERFILE)
        member.size, member.mtime = len(dockerfile), 1
        tar.addfile(member, io.BytesIO(dockerfile))
    return buffer.getvalue()


class Stoppable(io.FileIO):
    """A file whose reading ends with Stopped once it is not wanted any more: an upload then ends, too."""

    def __init__(self, path: Path, flag: StopFlag) -> None:
        super().__init__(path, "rb")
        self._flag = flag

    def read(self, size: int | None = -1, /) -> bytes:
        self._flag.check()
        return super().read(-1 if size is None else size)
