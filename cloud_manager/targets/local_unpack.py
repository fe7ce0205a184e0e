"""One layer's compressed bytes -> a folder. The bytes come from the event loop, the work is done in a thread."""

from __future__ import annotations

import asyncio
import gzip
import io
import os
import queue
import secrets
import shutil
import tarfile
import threading
import zlib
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path, PurePosixPath
from typing import IO, Any, cast

from cloud_manager.errors import TargetError

_AHEAD = 16
"""Chunks that may wait for the thread."""


class Cancelled(Exception):
    """The thread was told to stop."""


class BadLayer(TargetError):
    """A layer that a builder of ours would not make: nothing of it is used."""

    code = "bad_layer"


class Chunks(io.RawIOBase):
    """A file read by a thread and fed by a coroutine, with at most `_AHEAD` chunks between them."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._room = asyncio.Semaphore(_AHEAD)
        self._queue: queue.SimpleQueue[bytes | Exception | None] = queue.SimpleQueue()
        self._rest = memoryview(b"")
        self._over = False
        self.cancelled = threading.Event()

    async def feed(self, blob: AsyncIterator[bytes]) -> None:
        """Send all of a blob; an error of the blob is raised here and in the thread."""
        try:
            async for chunk in blob:
                await self._room.acquire()
                self._queue.put(chunk)
            self._queue.put(None)
        except BaseException:
            self.cancelled.set()
            self._queue.put(Cancelled())
            raise

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._rest and not self._over:
            self._take(self._queue.get())
        if self.cancelled.is_set():
            raise Cancelled
        count = min(len(buffer), len(self._rest))
        buffer[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        return count

    def _take(self, item: bytes | Exception | None) -> None:
        if isinstance(item, Exception):
            raise item
        if item is None:
            self._over = True
            return
        self._rest = memoryview(item)
        self._loop.call_soon_threadsafe(self._room.release)


async def unpack(blob: AsyncIterator[bytes], media_type: str, folder: Path) -> None:
    """Unpack a tar layer into a folder that is not there yet. Returns only after the thread has ended.

    Raises:
        BadLayer: not a layer, or one that reaches outside its folder.
        OSError: e.g. a full disk.
    """
    chunks = Chunks()
    thread = asyncio.create_task(asyncio.to_thread(_extract, chunks, media_type, folder))
    try:
        async with aclosing(cast("Any", blob)):
            await _feed_while_read(chunks, blob, thread)
        await asyncio.shield(thread)
    finally:
        if not thread.done():
            chunks.cancelled.set()
            chunks._queue.put(Cancelled())
        await wait_out(thread)


async def _feed_while_read(chunks: Chunks, blob: AsyncIterator[bytes], thread: asyncio.Task[None]) -> None:
    """A thread that gave up reads no more: feeding ends with it, and its error is the one that counts."""
    feeding = asyncio.create_task(chunks.feed(blob))
    try:
        await asyncio.wait([feeding, thread], return_when=asyncio.FIRST_COMPLETED)
        if feeding.done():
            feeding.result()
    finally:
        feeding.cancel()
        await asyncio.gather(feeding, return_exceptions=True)


async def wait_out(task: asyncio.Task[None]) -> None:
    """Wait for a task whatever happens to us; its own outcome is not looked at, a cancellation is passed on."""
    cancelled = False
    while not task.done():
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError:
            cancelled = True
    if not task.cancelled():
        task.exception()  # seen: the caller has raised it, or something worse, already
    if cancelled:
        raise asyncio.CancelledError


def _extract(chunks: Chunks, media_type: str, folder: Path) -> None:
    folder.mkdir(parents=True)
    stream: IO[bytes] = io.BufferedReader(chunks, 1024 * 1024)
    if media_type.endswith("gzip"):
        stream = cast("IO[bytes]", gzip.GzipFile(fileobj=stream))
    elif not media_type.endswith("tar"):
        raise BadLayer(f"a layer has the media type {media_type}", "rebuild the image with this image builder")
    try:
        with tarfile.open(fileobj=stream, mode="r|") as tar:
            # `extractall(filter=…)` came with python 3.11.4; Debian 12 has 3.11.2. So the members are filtered here,
            # each when those before it are on the disk, and the later pythons' own filter has nothing to do.
            tar.extraction_filter = lambda member, _: member
            tar.extractall(folder, members=(_only_inside(member, folder) for member in tar))  # noqa: S202 - filtered
        while stream.read(1024 * 1024):
            pass  # what follows the archive's end belongs to the blob too: its digest covers every byte
    except (tarfile.TarError, zlib.error, gzip.BadGzipFile, EOFError) as error:
        raise BadLayer(
            f"a layer cannot be unpacked: {error}", "delete the image builder's cache and build again"
        ) from error


def _only_inside(member: tarfile.TarInfo, folder: Path) -> tarfile.TarInfo:
    """As `tarfile.data_filter`, but stricter: no whiteouts either, since our layers take nothing from one another.

    https://docs.python.org/3/library/tarfile.html#tarfile.data_filter

    Raises:
        BadLayer: the member is, or points, outside the folder, through links made before it, too; or is no file.
    """
    path = PurePosixPath(member.name)
    if path.is_absolute() or ".." in path.parts or path.name.startswith(".wh."):
        raise _bad_path(member.name)
    if not (member.isreg() or member.isdir() or member.issym() or member.islnk()):
        raise BadLayer(f"a layer holds {member.name!r}, which is no file", "rebuild the image with this image builder")
    root = folder.resolve()
    reached = [root / path.parent]
    if member.issym():
        reached.append(root / path.parent / member.linkname)
    elif member.islnk():
        reached.append(root / member.linkname)
    elif path.parts:
        reached.append(root / path)
    if (member.issym() or member.islnk()) and PurePosixPath(member.linkname).is_absolute():
        raise _bad_path(f"{member.name} -> {member.linkname}")
    if not all(Path(os.path.realpath(place)).is_relative_to(root) for place in reached):
        raise _bad_path(f"{member.name} -> {member.linkname}" if member.linkname else member.name)
    if member.isreg():
        member.mode &= 0o555
    return member


def _bad_path(name: str) -> BadLayer:
    return BadLayer(f"a layer holds the path {name!r}", "rebuild the image with this image builder")


def discard(path: Path) -> None:
    """Delete a folder that is used by its name: at once gone under it, so that nobody finds half of it. Blocking."""
    if not path.name.startswith(".gone-"):
        path = path.rename(path.with_name(f".gone-{secrets.token_hex(8)}"))
    remove_tree(path)


def remove_tree(path: Path) -> None:
    """Delete a folder, whatever the modes in it. Missing is fine. Blocking."""

    def open_up(function: Any, name: str, _: object) -> None:
        if not Path(name).exists() and not Path(name).is_symlink():
            return
        Path(name).parent.chmod(0o700)
        function(name)

    if path.is_symlink() or path.is_file():
        path.unlink(missing_ok=True)
    elif path.exists():
        shutil.rmtree(path, onerror=open_up)
