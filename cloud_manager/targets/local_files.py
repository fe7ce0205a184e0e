"""An image of the builder -> a folder that stands for its `/`, over a python of this machine.

STATE_DIR/local/.layers/<sha256>   each layer, unpacked once, its files read-only
STATE_DIR/local/.partial/<random>  what is being unpacked; the folder is locked while its manager lives
"""

from __future__ import annotations

import asyncio
import errno
import fcntl
import json
import os
import secrets
import shutil
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cloud_manager.builder import Builder
from cloud_manager.errors import TargetError, Unavailable
from cloud_manager.targets.local_spec import VENV, ImageConfig
from cloud_manager.targets.local_unpack import Cancelled, discard, remove_tree, unpack, wait_out
from image_builder.contract import ImageReference

_SHARED = VENV.lstrip("/") + "/"
"""What may be hard-linked from a layer: installed packages, which programs do not write into."""
_LARGEST_MANIFEST = 4 * 1024 * 1024


class LocalFiles:
    def __init__(self, folder: Path, builder: Builder) -> None:
        self._layers = folder / ".layers"
        self._partial = folder / ".partial"
        self._builder = builder
        self._locks: dict[str, asyncio.Lock] = {}
        self._mine: Path | None = None
        self._mine_lock = -1

    async def prepare(self, image: ImageReference, root: Path) -> ImageConfig:
        """Make `root` from an image; what is there already is not made again.

        Raises:
            DeployError: the builder does not answer, the disk is full, or the image is not one of ours.
        """
        manifest = await self._json(image, image.digest)
        config = await self._json(image, manifest["config"]["digest"])
        with _disk_errors():
            # First of all say which layers are in use, so that a `prune` meanwhile leaves them alone.
            await asyncio.to_thread(_note_layers, root.parent, [layer["digest"] for layer in manifest["layers"]])
            if not await asyncio.to_thread(root.exists):
                folders = [await self._layer(image, layer) for layer in manifest["layers"]]
                await self._assemble(folders, root)
        return ImageConfig.parse(config)

    async def prune(self, revisions: Iterable[Path]) -> None:
        """Delete the layers that no revision refers to."""
        await in_thread(lambda _: self._prune(list(revisions)))

    def close(self) -> None:
        if self._mine is not None:
            remove_tree(self._mine)
            os.close(self._mine_lock)
            self._mine = None

    async def _json(self, image: ImageReference, digest: str) -> dict[str, Any]:
        data = bytearray()
        async for chunk in self._builder.blob(image, digest):
            data += chunk
            if len(data) > _LARGEST_MANIFEST:
                raise TargetError(f"{digest} is too large for a manifest", "build the image again", code="bad_image")
        try:
            value = json.loads(data)
        except ValueError as error:
            raise TargetError(f"{digest} is not JSON: {error}", "build the image again", code="bad_image") from error
        return dict(value)

    async def _layer(self, image: ImageReference, layer: dict[str, Any]) -> Path:
        """The folder of an unpacked layer."""
        digest = str(layer["digest"])
        done = self._layers / digest.replace(":", "-")
        async with self._locks.setdefault(digest, asyncio.Lock()):
            if done.exists():
                return done
            partial = self._new_partial()
            try:
                await unpack(self._builder.blob(image, digest), str(layer["mediaType"]), partial / "files")
                await in_thread(lambda _: _finish(partial, done))
            finally:
                await in_thread(lambda _: remove_tree(partial))
        return done

    async def _assemble(self, layers: list[Path], root: Path) -> None:
        partial = self._new_partial() / "files"
        try:
            await in_thread(lambda cancelled: _lay_over(layers, partial, cancelled))
            partial.replace(root)
        finally:
            await in_thread(lambda _: remove_tree(partial.parent))

    def _new_partial(self) -> Path:
        """A fresh path on the disk of the layers. The first call sweeps what dead managers have left."""
        if self._mine is None:
            self._partial.mkdir(mode=0o700, parents=True, exist_ok=True)
            _sweep(self._partial)
            self._mine = self._partial / secrets.token_hex(8)
            self._mine.mkdir(mode=0o700)
            self._mine_lock = os.open(self._mine, os.O_RDONLY)
            fcntl.flock(self._mine_lock, fcntl.LOCK_EX)
        path = self._mine / secrets.token_hex(8)
        path.mkdir(mode=0o700)
        return path

    def _prune(self, revisions: list[Path]) -> None:
        used = {digest.replace(":", "-") for path in revisions for digest in _layers_of(path)}
        for layer in self._layers.iterdir() if self._layers.exists() else ():
            if layer.name not in used:
                discard(layer)


def _note_layers(revision: Path, digests: list[str]) -> None:
    revision.mkdir(mode=0o700, parents=True, exist_ok=True)
    (revision / "layers.json").write_text(json.dumps(digests))


def _layers_of(revision: Path) -> list[str]:
    try:
        return list(json.loads((revision / "layers.json").read_text()))
    except (OSError, ValueError):
        return []  # no revision of ours, or not begun: it needs no layer


def _finish(partial: Path, done: Path) -> None:
    """A layer exists whole or not at all."""
    descriptor = os.open(partial / "files", os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    done.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        (partial / "files").replace(done)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):  # another manager was faster: its layer is the same
            raise


def _sweep(folder: Path) -> None:
    for left in folder.iterdir():
        descriptor = os.open(left, os.O_RDONLY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            remove_tree(left)
        except BlockingIOError:
            continue  # its manager lives
        finally:
            os.close(descriptor)


def _lay_over(layers: list[Path], root: Path, cancelled: threading.Event) -> None:
    """Later layers win, as in an overlay; nothing is ever written through a link."""
    root.mkdir()
    real_root = os.path.realpath(root)
    for layer in layers:
        for folder, names, files in os.walk(layer):
            if cancelled.is_set():
                raise Cancelled
            relative = os.path.relpath(folder, layer)
            target = Path(root, relative)
            _make_folder(target, real_root)
            links = [name for name in names if Path(folder, name).is_symlink()]
            for name in [*files, *links]:
                _place(Path(folder, name), target / name, shared=f"{relative}/".startswith(_SHARED))


def _make_folder(target: Path, real_root: str) -> None:
    if target.is_symlink() or target.is_file():
        target.unlink()
    target.mkdir(exist_ok=True)
    if os.path.commonpath([real_root, os.path.realpath(target)]) != real_root:
        raise TargetError(f"a layer reaches outside of the image: {target.name}", "build it again", code="bad_layer")


def _place(source: Path, target: Path, *, shared: bool) -> None:
    if target.is_symlink() or target.exists():
        remove_tree(target)
    if source.is_symlink():
        return target.symlink_to(source.readlink())
    if shared:
        try:
            return target.hardlink_to(source)
        except OSError as error:
            if error.errno not in (errno.EXDEV, errno.EMLINK, errno.EPERM, errno.ENOTSUP):
                raise
    shutil.copy2(source, target)
    target.chmod(target.stat().st_mode | 0o200)  # the program may write its own files, as in a container
    return None


def make_environment(root: Path, python: Path, version: str) -> None:
    """Complete the image's virtual environment with this machine's python. May be repeated. Blocking.

    See https://docs.python.org/3/library/site.html for pyvenv.cfg.
    """
    venv = Path(f"{root}{VENV}")
    (venv / "bin").mkdir(parents=True, exist_ok=True)
    (venv / "lib" / f"python{version}" / "site-packages").mkdir(parents=True, exist_ok=True)
    lines = (f"home = {python.parent}", "include-system-site-packages = false", f"version = {version}")
    (venv / "pyvenv.cfg").unlink(missing_ok=True)  # it may be a link into a layer
    (venv / "pyvenv.cfg").write_text("\n".join(lines) + "\n")
    for name in ("python", "python3", f"python{version}"):
        link = venv / "bin" / name
        link.unlink(missing_ok=True)
        link.symlink_to(python)


async def in_thread(work: Any) -> None:
    """Run `work(cancelled)` in a thread; a cancellation sets the flag and waits for the thread's end."""
    flag = threading.Event()
    thread: asyncio.Task[None] = asyncio.create_task(asyncio.to_thread(work, flag))
    try:
        await asyncio.shield(thread)
    finally:
        flag.set()
        await wait_out(thread)


@contextmanager
def _disk_errors() -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        raise Unavailable(
            f"{error.filename} was deleted while it was used",
            "nothing to do: it is unpacked again",
            code="layer_vanished",
        ) from error
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise Unavailable(
                "the disk of STATE_DIR is full; the image cannot be unpacked",
                "free some space there; it is tried again by itself",
                code="disk_full",
            ) from error
        raise TargetError(f"cannot unpack the image: {error}", "look at STATE_DIR's rights and disk") from error
