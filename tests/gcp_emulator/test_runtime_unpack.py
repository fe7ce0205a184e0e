"""Layers as others make them, unpacked by the twin."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest

from gcp_emulator.runtime_unpack import BadLayer, lay_over


def layer(path: Path, *names: str, link: tuple[str, str] | None = None) -> Path:
    with tarfile.open(path, "w") as tar:
        if link:
            entry = tarfile.TarInfo(link[0])
            entry.type, entry.linkname = tarfile.SYMTYPE, link[1]
            tar.addfile(entry)
        for name in names:
            entry = tarfile.TarInfo(name)
            entry.type = tarfile.DIRTYPE if name.endswith(("/", ".")) else tarfile.REGTYPE
            tar.addfile(entry, io.BytesIO())
    return path


def test_the_root_itself_may_be_an_entry(tmp_path: Path) -> None:
    """`docker import` and mmdebstrap write it first: no base of theirs could be deployed."""
    lay_over(layer(tmp_path / "one.tar", "./", "./app/", "./app/main.py"), "layer.v1.tar", tmp_path / "root")
    assert (tmp_path / "root" / "app" / "main.py").is_file()


@pytest.mark.parametrize("name", ["/etc/x", "../x", "app/../../x"])
def test_no_entry_leaves_the_root(tmp_path: Path, name: str) -> None:
    with pytest.raises(BadLayer, match="holds the path"):
        lay_over(layer(tmp_path / "one.tar", name), "layer.v1.tar", tmp_path / "root")


def test_nor_does_one_behind_a_link(tmp_path: Path) -> None:
    """An image could else write over this machine's files."""
    with pytest.raises(BadLayer, match="behind a link"):
        lay_over(layer(tmp_path / "one.tar", "out/x", link=("out", str(tmp_path))), "layer.v1.tar", tmp_path / "root")
    assert not (tmp_path / "x").exists()
