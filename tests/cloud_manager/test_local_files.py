"""From an image to a folder: nothing outside it, nothing half done, nothing kept that is not used."""

from __future__ import annotations

import asyncio
import errno
import gzip
import os
import tarfile
from contextlib import suppress
from pathlib import Path

import pytest

from cloud_manager.errors import DeployError
from cloud_manager.targets.local_files import LocalFiles
from cloud_manager.targets.local_unpack import BadLayer, discard, remove_tree
from image_builder.contract import ImageReference
from tests.fakes.image_shelf import SITE, ImageShelf, tar_gz


def entry(name: str, kind: bytes, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


async def prepared(shelf: ImageShelf, image: ImageReference, home: Path, name: str = "one") -> Path:
    files = LocalFiles(home, shelf)
    root = home / "user" / "project" / "revisions" / name / "root"
    try:
        await files.prepare(image, root)
    finally:
        files.close()
    return root


async def test_packages_are_shared_and_the_program_is_its_own(tmp_path: Path) -> None:
    """torch is unpacked once for all projects; what a program writes into its own files stays there."""
    shelf = ImageShelf()
    one, two = shelf.image({"server.py": "1"}), shelf.image({"server.py": "2"})
    first = await prepared(shelf, one, tmp_path, "one")
    sent = len(shelf.sent)
    second = await prepared(shelf, two, tmp_path, "two")
    assert len(shelf.sent) - sent == 3, "manifest, configuration, program: not the packages again"
    package = f"{SITE}/shelf_package.py"
    assert (first / package).samefile(second / package)
    assert (first / package).stat().st_mode & 0o222 == 0
    assert (second / "workspace/server.py").read_text() == "2"
    again = await prepared(shelf, one, tmp_path, "three")
    assert not (first / "workspace/server.py").samefile(again / "workspace/server.py")
    assert (again / "workspace/server.py").stat().st_mode & 0o200


async def test_layers_nobody_refers_to_are_deleted(tmp_path: Path) -> None:
    shelf = ImageShelf()
    one, two = shelf.image({"server.py": "1"}), shelf.image({"server.py": "2"})
    kept = await prepared(shelf, one, tmp_path, "one")
    await prepared(shelf, two, tmp_path, "two")
    assert len(list((tmp_path / ".layers").iterdir())) == 3
    files = LocalFiles(tmp_path, shelf)
    await files.prune([kept.parent])
    assert len(list((tmp_path / ".layers").iterdir())) == 2
    await files.prune([])
    assert list((tmp_path / ".layers").iterdir()) == []
    assert (kept / SITE / "shelf_package.py").exists(), "what is linked stays"


@pytest.mark.parametrize(
    "member",
    [
        ("../outside", b""),
        ("/etc/outside", b""),
        ("a/../../outside", b""),
        ("workspace/.wh.server.py", b""),
        entry("link", tarfile.SYMTYPE, "/etc/passwd"),
        entry("workspace/link", tarfile.SYMTYPE, "../../outside"),
        entry("hard", tarfile.LNKTYPE, "../../outside"),
        entry("device", tarfile.CHRTYPE),
        entry("pipe", tarfile.FIFOTYPE),
    ],
)
async def test_a_layer_cannot_reach_outside(tmp_path: Path, member: tarfile.TarInfo | tuple[str, bytes]) -> None:
    """Else an image could overwrite any file of the manager's user."""
    shelf = ImageShelf()
    image = shelf.image({"server.py": "1"}, more_layers=[tar_gz([member])])
    with pytest.raises(DeployError):
        await prepared(shelf, image, tmp_path / "home")
    assert [path.name for path in tmp_path.iterdir()] == ["home"]
    assert list((tmp_path / "home/.partial").iterdir()) == []
    assert not list((tmp_path / "home").glob("user/**/root"))


async def test_layers_together_cannot_reach_outside(tmp_path: Path) -> None:
    """A link of one layer, harmless there, must not carry a file of the next one away."""
    shelf = ImageShelf()
    (tmp_path / "victim").mkdir()
    first = tar_gz([entry("a", tarfile.DIRTYPE), entry("a/up", tarfile.SYMTYPE, "..")])
    second = tar_gz([entry("a", tarfile.SYMTYPE, "b"), ("up/x", b"1")])
    image = shelf.image({"server.py": "1"}, more_layers=[first, second, tar_gz([("a/up/y", b"2")])])
    with suppress(DeployError):
        await prepared(shelf, image, tmp_path / "home")
    outside = [path for path in tmp_path.rglob("*") if path.name in ("x", "y") and "home" not in path.parts]
    assert outside == []


@pytest.mark.parametrize("spoil", [b"not a gzip", gzip.compress(b"not a tar" * 500, mtime=0), b""])
async def test_a_broken_layer_is_refused_and_leaves_nothing(tmp_path: Path, spoil: bytes) -> None:
    shelf = ImageShelf()
    image = shelf.image({"server.py": "1"}, more_layers=[spoil])
    with pytest.raises(BadLayer):
        await prepared(shelf, image, tmp_path)
    assert list((tmp_path / ".partial").iterdir()) == []


async def test_a_builder_that_goes_away_is_waited_for(tmp_path: Path) -> None:
    """Half a layer is never used, and the same call succeeds later."""
    shelf = ImageShelf(chunk=64)
    image = shelf.image({"server.py": "1" * 5000})
    unpacking = asyncio.create_task(prepared(shelf, image, tmp_path))
    while len(shelf.sent) < 3:
        await asyncio.sleep(0)
    shelf.down = True
    with pytest.raises(DeployError) as caught:
        await unpacking
    assert caught.value.problem.retryable
    shelf.down = False
    assert (await prepared(shelf, image, tmp_path) / "workspace/server.py").exists()


@pytest.mark.parametrize("turns", [1, 5, 20, 60, 150, 400])
async def test_a_cancelled_preparation_leaves_no_thread_and_no_rubbish(tmp_path: Path, turns: int) -> None:
    """Else a /stop while torch is unpacked would go on unpacking it."""
    shelf = ImageShelf(chunk=256)
    image = shelf.image({f"file{n}.py": os.urandom(400).hex() for n in range(50)})
    unpacking = asyncio.create_task(prepared(shelf, image, tmp_path))
    for _ in range(turns):
        await asyncio.sleep(0)
    unpacking.cancel()
    with suppress(asyncio.CancelledError):
        await unpacking
    assert not list(tmp_path.glob(".partial/*"))
    assert (await prepared(shelf, image, tmp_path) / "workspace/file49.py").exists()


async def test_what_a_dead_manager_left_is_swept_and_a_living_ones_is_not(tmp_path: Path) -> None:
    shelf = ImageShelf()
    image = shelf.image({"server.py": "1"})
    (tmp_path / ".partial" / "dead" / "half").mkdir(parents=True)
    living = LocalFiles(tmp_path, shelf)
    await living.prepare(image, tmp_path / "a/b/revisions/c/root")
    mine = set((tmp_path / ".partial").iterdir())
    assert "dead" not in {path.name for path in mine}
    await prepared(shelf, shelf.image({"server.py": "2"}), tmp_path)
    assert set((tmp_path / ".partial").iterdir()) == mine
    living.close()


def test_read_only_trees_can_be_deleted(tmp_path: Path) -> None:
    locked = tmp_path / "tree" / "locked"
    locked.mkdir(parents=True)
    (locked / "file").write_text("")
    locked.chmod(0o500)
    remove_tree(tmp_path / "tree")
    remove_tree(tmp_path / "tree")
    assert not (tmp_path / "tree").exists()


def test_what_is_used_by_its_name_vanishes_whole(tmp_path: Path) -> None:
    """Else a kill -9 while a layer is deleted would leave half a package for the next deployment."""
    left = tmp_path / ".gone-0123"
    left.mkdir()
    (tmp_path / "layer").mkdir()
    (tmp_path / "layer" / "file").write_text("")
    discard(tmp_path / "layer")
    discard(left)
    assert list(tmp_path.iterdir()) == []


async def test_a_full_disk_is_said_and_waited_out(tmp_path: Path) -> None:
    class Full(ImageShelf):
        async def blob(self, image: ImageReference, digest: str):  # type: ignore[no-untyped-def]
            async for chunk in super().blob(image, digest):
                yield chunk
            if len(self.sent) > 2:
                raise OSError(errno.ENOSPC, "No space left on device")

    shelf = Full()
    with pytest.raises(DeployError, match="disk of STATE_DIR is full") as caught:
        await prepared(shelf, shelf.image({"server.py": "1"}), tmp_path)
    assert caught.value.problem.retryable
