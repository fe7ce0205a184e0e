"""A base is read as the engines will lay it out: otherwise our layers replace its links, and it no longer starts."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Sequence

import pytest

from image_builder.oci.base_tree import BaseTree, Folder, Member, Underlay, read_tree
from tests.base_image import PATH, PYTHON_TREE, Tree, layer_of


def tree_of(*layers: Tree, path: str | None = PATH) -> BaseTree:
    opened = [tarfile.TarFile(fileobj=io.BytesIO(layer_of(layer))) for layer in layers]
    return read_tree(((Member(info) for info in tar) for tar in opened), path, "opt/venv")


def test_the_interpreter_is_found_through_links() -> None:
    found = tree_of(
        {
            "usr/bin/python3.12": b"",
            "bin": "-> usr/bin",
            "usr/bin/python3": "-> ../lib/py/python3.13",
            "usr/lib/py/python3.13": b"",
            "opt/conda/bin/python3.9": b"",
            "usr/local/bin/python3.10": "-> /opt/conda/bin/python3.9",
            "usr/local/bin/python3.8": "-> gone",
            "usr/local/bin/python3.7": ("folder", 0o755),
        },
        path="/usr/local/bin:/bin",
    ).pythons
    assert found == {
        "3.10": "/opt/conda/bin/python3.9",
        "3.13": "/usr/lib/py/python3.13",
        "3.12": "/usr/bin/python3.12",
    }


def test_the_first_on_the_path_wins() -> None:
    layer: Tree = {"usr/bin/python3.11": b"", "usr/local/bin/python3.11": b""}
    assert tree_of(layer).pythons == {"3.11": "/usr/local/bin/python3.11"}
    assert tree_of(layer, path="/usr/bin:/usr/local/bin").pythons == {"3.11": "/usr/bin/python3.11"}
    assert tree_of(layer, path=None).pythons == {"3.11": "/usr/local/bin/python3.11"}


@pytest.mark.parametrize(
    "upper",
    [
        {"usr/local/bin/.wh.python3.11": b""},
        {"usr/local/.wh.bin": b""},
        {"usr/.wh..wh..opq": b""},
        {"usr/local": b"a file now"},
    ],
)
def test_what_an_upper_layer_takes_away_is_gone(upper: Tree) -> None:
    assert tree_of(PYTHON_TREE, upper).pythons == {}


def test_a_whiteout_concerns_lower_layers_only() -> None:
    upper: Tree = {"usr/local/bin/python3.12": b"", "usr/local/bin/.wh..wh..opq": b""}
    assert tree_of(PYTHON_TREE, upper).pythons == {"3.12": "/usr/local/bin/python3.12"}


def test_a_venv_of_the_base_is_seen() -> None:
    assert tree_of({"opt/venv/bin/python": b""}).own_venv
    assert tree_of({"opt": "-> srv", "srv/venv/x": b""}).own_venv
    assert not tree_of({"opt/venv": ("folder", 0o755), "opt/venvs/x": b""}).own_venv


def test_entries_go_where_the_links_of_the_base_lead() -> None:
    """A layer that names `opt` as a folder where the base has a link hides all that lies behind the link."""
    under = tree_of({"opt": "-> /srv/../data/opt", "lib": "-> usr/lib", "usr/lib/x.so": "-> y.so", "usr/lib/y.so": b""})
    links = under.underlay
    assert links.links == {"opt": "/srv/../data/opt", "lib": "usr/lib"}
    assert links.place("opt/venv/bin/python") == "data/opt/venv/bin/python"
    assert links.place("lib/a") == "usr/lib/a"
    assert links.place("opt") == "opt"
    assert links.place("lib") == "lib"


def test_a_layer_depends_only_on_what_it_passes() -> None:
    """Otherwise torch is stored and sent anew for each base there is."""
    under = tree_of(
        {
            "bin": "-> usr/bin",
            "tmp": ("folder", 0o1777),
            "workspace": "-> data",
            "data": ("folder", 0o775),
            "data/cache": "-> /mnt/cache",
            "mnt/cache": ("folder", 0o700),
        }
    ).underlay
    assert not under.below("opt/venv")
    assert under.below("workspace") == Underlay(
        {"data/cache": "/mnt/cache", "workspace": "data"}, {"data": Folder(0o775), "mnt/cache": Folder(0o700)}
    )
    assert under.below("workspace").place("workspace/cache/x") == "mnt/cache/x"


@pytest.mark.parametrize("links", [{"a": "-> a"}, {"a": "-> b", "b": "-> a"}])
def test_circles_end(links: Tree) -> None:
    assert tree_of(links).underlay.links == {}
    with pytest.raises(ValueError, match="circle"):
        Underlay({"a": "a"}).real("a/b")


def test_links_never_leave_the_image() -> None:
    assert Underlay({"opt": "../../../etc"}).place("opt/x") == "etc/x"


def test_all_names_are_read_alike() -> None:
    names: Sequence[str] = ("./usr/local/bin/python3.11", "/usr/local/bin/python3.11", "usr//local/bin/python3.11")
    assert {tuple(tree_of({name: b""}).pythons) for name in names} == {("3.11",)}
