"""Images published by the builder, unpacked by everybody else's programs: all must find the same files."""

from __future__ import annotations

import asyncio
import hashlib
import random
import secrets
from pathlib import Path

import pytest

from image_builder.pipeline import build
from image_builder.workshop import Workshop
from tests.base_image import PYTHON_TREE, tiny_base
from tests.base_image import Tree as BaseTree
from tests.image_builder.wheels import SCRIPT, Notes, make_project, make_request, make_wheel, offline, plan_of
from tests.integration.judges import JUDGES, Case, Judge, Tree, by_python, differences, inspected
from tests.integration.works import Works

SITE = "data/opt/venv/lib/python3.11/site-packages"
NOISE = random.Random(3).randbytes(300_000)
WORDS = b"weights " * 60_000
FOLDER = ("folder", 0o755)
BASE: BaseTree = {
    **dict.fromkeys(("etc", "usr", "usr/lib", "usr/local", "usr/local/bin", "data/opt"), FOLDER),
    **{"data": ("folder", 0o710), "opt": "-> data/opt", "lib": "-> usr/lib"},
    **PYTHON_TREE,
}
PACKAGE = {
    "hello/__init__.py": "def main():\n    print('hello')\n",
    "hello/empty.py": "",
    "hello/noise.bin": NOISE,
    "hello/table.py": WORDS,
    "hello/run.so": NOISE[:90_000],
    "hello/한글.txt": "x",
    "hello-1.0.data/scripts/tool": "#!python\nprint('tool')\n",
    "hello-1.0.data/data/share/doc.txt": "doc",
}
PROGRAM = {
    "app.py": "print('hi')\n",
    "w.bin": NOISE,
    "words.bin": WORDS,
    "lib/한글.py": "x = 1\n",
    "run.sh": "#!/bin/sh\n",
}


def sha256(data: bytes | str) -> str:
    return hashlib.sha256(data.encode() if isinstance(data, str) else data).hexdigest()


@pytest.fixture(scope="module")
def mixed(registry: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """An image with every kind of gzip member that layers have: carried over, stored, compressed, many small ones."""
    home = tmp_path_factory.mktemp("mixed")
    make_wheel(
        home / "links", files=PACKAGE, entry_points=SCRIPT, modes={"hello/run.so": 0o755, "hello/empty.py": 0o600}
    )
    make_wheel(home / "links", "dep", files={"dep.py": "x = 1\n"}, compression=0)
    folder = make_project(home / "shared", PROGRAM)
    (folder / "link").symlink_to("lib/한글.py")
    (folder / "run.sh").chmod(0o777)
    name = secrets.token_hex(4)
    base = tiny_base(registry, f"{name}/base", [BASE, {"etc/x": b""}])
    request = make_request("hello", "dep", base_image=base, weights=("w.bin", "words.bin"), push=f"{registry}/{name}:1")
    workshop = Workshop.open(home / "state", offline(home / "links"))
    try:
        image = asyncio.run(build(plan_of(request, home / "shared", workshop), workshop, Notes()))
    finally:
        workshop.close()
    return str(image.pushed)


@pytest.fixture(scope="module")
def mixed_tree(mixed: str, tmp_path_factory: pytest.TempPathFactory) -> Tree:
    return by_python(Case(mixed, tmp_path_factory.mktemp("python")))


def test_what_the_others_are_compared_with_is_what_went_in(mixed_tree: Tree) -> None:
    """Otherwise all agree on an image that lacks half of the program."""
    for path, data in {f"{SITE}/{name}": data for name, data in PACKAGE.items() if name.startswith("hello/")}.items():
        assert mixed_tree[path].content == sha256(data), path
    for name, data in PROGRAM.items():
        assert mixed_tree[f"workspace/{name}"].content == sha256(data), name
    modes = {path: oct(row.mode) for path, row in mixed_tree.items() if row.kind == "file"}
    assert (modes[f"{SITE}/hello/run.so"], modes[f"{SITE}/hello/empty.py"]) == ("0o755", "0o644")
    assert (modes["workspace/run.sh"], modes["workspace/app.py"]) == ("0o755", "0o644")
    assert mixed_tree["workspace/link"].content == "lib/한글.py"
    assert [mixed_tree[name].kind for name in ("bin", "lib", "opt")] == ["link"] * 3, "the base's links stay"
    assert mixed_tree["data"].mode == 0o710 and mixed_tree["tmp"].mode == 0o1777


@pytest.mark.parametrize("judge", JUDGES, ids=lambda judge: judge.name)
def test_everyone_unpacks_the_same(
    judge: Judge, mixed: str, mixed_tree: Tree, tmp_path: Path, docker_engine: str
) -> None:
    """One that reads the first member of a gzip file only would start a service without its files."""
    assert differences(mixed_tree, judge.unpack(Case(mixed, tmp_path, docker_engine))) == []


def test_skopeo_sees_the_digest_that_was_told(mixed: str) -> None:
    assert inspected(mixed)["Digest"] == mixed.partition("@")[2]


@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", ["hello", "digits", "apt", "own"])
def test_everyone_unpacks_whole_projects(name: str, works: Works, tmp_path: Path) -> None:
    reference = works.image(name)["image"]["pushed"]
    (tmp_path / "python").mkdir()
    expected = by_python(Case(reference, tmp_path / "python"))
    for judge in JUDGES:
        (tmp_path / judge.name).mkdir()
        assert differences(expected, judge.unpack(Case(reference, tmp_path / judge.name, works.docker_host))) == []
