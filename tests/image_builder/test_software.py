"""What a base holds is read from its files: otherwise nobody finds the hole in it, and wheels do not fit its libc."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from image_builder.oci.base import BaseImage, BaseLayer
from image_builder.oci.base_scan import known_tree, scan
from image_builder.oci.base_tree import BaseTree
from image_builder.oci.layout import Layout
from image_builder.oci.software import Installed, Libc, Software
from image_builder.work import StopFlag
from tests.base_image import Tree, layer_of
from tests.image_builder.odd_bases import ALPINE, DEBIAN, DISTROLESS, glibc


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    made = Layout(tmp_path / "images")
    made.prepare()
    return made


def scanned(layout: Layout, *trees: Tree) -> BaseTree:
    """Both as it is found and as it is remembered."""
    blobs = [gzip.compress(layer_of(tree)) for tree in trees]
    rows = tuple(BaseLayer(layout.add(blob), "", len(blob), "") for blob in blobs)
    base = BaseImage("registry.test/base@sha256:0", f"sha256:{len(trees):064}", {}, rows)
    found = scan(base, layout, layout.folder / "bases", StopFlag())
    assert known_tree(base, layout.folder / "bases") == found
    return found


def software(layout: Layout, *trees: Tree) -> Software:
    return scanned(layout, *trees).software


def test_a_debian_tells_its_packages_and_its_libc(layout: Layout) -> None:
    found = software(layout, DEBIAN)
    assert (found.distribution, found.release, found.libc) == ("debian", "12", Libc("glibc", 2, 36))
    assert found.packages == (
        Installed("deb", "libc6", "2.36-9+deb12u10", "amd64", "glibc"),
        Installed("deb", "tzdata", "2025b-0+deb12u1", "all"),
        Installed("pypi", "Six", "1.16.0", where="/usr/lib/python3/dist-packages"),
        Installed("pypi", "pip", "23.0", where="/usr/lib/python3/dist-packages"),
    )


def test_an_alpine_tells_its_packages_and_its_libc(layout: Layout) -> None:
    found = software(layout, ALPINE)
    assert (found.distribution, found.release, found.libc) == ("alpine", "3.18.4", Libc("musl", 1, 2))
    assert Installed("apk", "libcrypto3", "3.1.4-r5", "x86_64", "openssl") in found.packages
    assert Installed("apk", "musl", "1.2.4_git20230717-r4", "x86_64") in found.packages


def test_an_image_made_without_dpkg_tells_its_packages(layout: Layout) -> None:
    found = software(layout, DISTROLESS)
    assert found.packages == (Installed("deb", "tzdata", "2024a", "all"),) and found.libc is None


def test_the_topmost_layer_counts(layout: Layout) -> None:
    """Otherwise a package that was taken away, or an old libc below the new one, is reported."""
    upper: Tree = {
        "var/lib/dpkg/status": b"Package: vim\nStatus: install ok installed\nVersion: 2:9.0\n",
        "usr/lib/x86_64-linux-gnu/libc.so.6": glibc("2.41"),
        "usr/lib/python3/dist-packages/.wh.six-1.16.0.egg-info": b"",
        "usr/lib/python3/dist-packages/.wh.pip-23.0.dist-info": b"",
    }
    found = software(layout, DEBIAN, upper)
    assert found.packages == (Installed("deb", "vim", "2:9.0"),) and found.libc == Libc("glibc", 2, 41)


def test_an_older_layout_of_the_c_library_is_known(layout: Layout) -> None:
    """Debian 11 and older: libc.so.6 is a link."""
    lib = "lib/x86_64-linux-gnu"
    tree: Tree = {f"{lib}/libc-2.31.so": glibc("2.31"), f"{lib}/libc.so.6": "-> libc-2.31.so"}
    assert software(layout, tree).libc == Libc("glibc", 2, 31)


def test_a_c_library_for_other_machines_is_not_the_images(layout: Layout) -> None:
    """A compiler for others brings one of its own."""
    other = "opt/conda/x86_64-conda-linux-gnu/sysroot/lib64/libc.so.6"
    assert software(layout, {**ALPINE, other: glibc("2.17")}).libc == Libc("musl", 1, 2)


@pytest.mark.parametrize(
    ("path", "data"),
    [
        ("var/lib/dpkg/status", b"\xff\xfe: \n\n:\nPackage\nVersion:"),
        ("lib/apk/db/installed", b"P:\n\n\0"),
        ("usr/lib/os-release", b"\xff=\n=\n"),
        ("usr/lib/site-packages/a.dist-info/METADATA", b"\0\xff\n"),
        ("lib/ld-musl-x86_64.so.1", b""),
        ("lib/libc.so.6", b"GNU C Library"),
    ],
)
def test_nonsense_in_a_base_is_no_error(layout: Layout, path: str, data: bytes) -> None:
    assert software(layout, {path: data}).packages == ()
