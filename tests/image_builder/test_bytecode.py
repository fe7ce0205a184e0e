"""Packages compiled ahead: services start sooner, and the same inputs still give the same image."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import shutil
import subprocess
import sys
import tarfile
from collections.abc import AsyncIterator
from pathlib import Path

import psutil
import pytest

from image_builder.contract import ImageReference
from image_builder.errors import BuildError
from image_builder.interpreters import Interpreter, Interpreters
from image_builder.layers.wheel import site_packages
from image_builder.oci.layout import Layout
from image_builder.pipeline import build
from image_builder.plan import BuildPlan, make_plan
from image_builder.workshop import Workshop
from tests.image_builder.wheels import Notes, make_project, make_request, make_wheel, offline, until

PYTHON = f"{sys.version_info[0]}.{sys.version_info[1]}"
SITE = site_packages(PYTHON)
TAG = sys.implementation.cache_tag
MODULES = {
    "hello/__init__.py": "NAMES = {'a', 'b', 'c'}\ndef where():\n    return where.__code__.co_filename\n",
    "hello/odd.py": "def later(x): return x in {'some', 'words', 'of', 'a', 'set'}\n",
    "hello/py2.py": "print 'old'\n",
    "hello/bad.py": "\0",
    "hello/data.txt": "x",
}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    make_project(tmp_path / "shared")
    make_wheel(tmp_path / "links", files=MODULES)
    return tmp_path / "shared"


@pytest.fixture
async def workshop(tmp_path: Path, root: Path) -> AsyncIterator[Workshop]:
    opened = Workshop.open(tmp_path / "state", offline(tmp_path / "links"))
    yield opened
    opened.close()


def compiled_plan(workshop: Workshop, root: Path, *requirements: str) -> BuildPlan:
    request = make_request(*requirements or ("hello",), python=PYTHON)
    return make_plan(request, root, workshop.hashes, compiler_of=workshop.interpreters.find)


def layers_of(layout: Layout, image: ImageReference) -> list[str]:
    return [row["digest"] for row in json.loads(layout.path(image.digest).read_bytes())["layers"]]


def contents(layout: Layout, digest: str) -> dict[str, bytes]:
    with tarfile.open(layout.path(digest), "r:gz") as tar:
        names = tar.getnames()
        assert len(names) == len(set(names)), "docker refuses a layer that names a path twice"
        return {row.name: tar.extractfile(row).read() for row in tar if row.isfile()}  # type: ignore[union-attr]


async def test_modules_are_compiled_and_python_takes_them(workshop: Workshop, root: Path, tmp_path: Path) -> None:
    """Without it each start of a service compiles all that it imports, and throws it away."""
    notes = Notes()
    image = await build(compiled_plan(workshop, root), workshop, notes)
    assert notes.states == {"1 package": "built", "bytecode of 1 package": "built", "program": "built"}
    assert any("2 modules stay source only" in line and "py2.py" in line for line in notes.logs)
    wheel, bytecode, _ = layers_of(workshop.layout, image)
    files = contents(workshop.layout, bytecode)
    cache = f"{SITE}/hello/__pycache__"
    assert set(files) == {f"{cache}/__init__.{TAG}.pyc", f"{cache}/odd.{TAG}.pyc"}
    pyc = files[f"{cache}/odd.{TAG}.pyc"]
    assert pyc[:8] == importlib.util.MAGIC_NUMBER + b"\1\0\0\0", "unchecked: the times in a layer mean nothing"
    assert f"/{SITE}/hello/odd.py".encode() in pyc and str(tmp_path).encode() not in pyc
    for digest in (wheel, bytecode):
        with tarfile.open(workshop.layout.path(digest), "r:gz") as tar:
            tar.extractall(tmp_path / "root", filter="data")
    said = subprocess.run(
        [sys.executable, "-v", "-c", "import hello.odd"],
        env={"PYTHONPATH": str(tmp_path / "root" / SITE)},
        capture_output=True,
        text=True,
        check=True,
    ).stderr
    assert "odd." in said and "matches" not in said.partition("hello/odd.py")[2].splitlines()[0]
    compiled = tmp_path / "root" / cache / f"odd.{TAG}.pyc"
    assert f"code object from '{compiled}'" in said.replace('"', "'")


async def test_two_compilations_are_equal_on_any_machine(root: Path, tmp_path: Path) -> None:
    digests = set()
    for name in ("one", "two"):
        opened = Workshop.open(tmp_path / name, offline(tmp_path / "links", PYTHONHASHSEED=name))
        image = await build(compiled_plan(opened, root), opened, Notes())
        digests.add((image.digest, layers_of(opened.layout, image)[1]))
        assert not list((opened.folder / "scratch").iterdir())
        opened.close()
    assert len(digests) == 1


async def test_nothing_is_compiled_twice(workshop: Workshop, root: Path) -> None:
    await build(compiled_plan(workshop, root), workshop, Notes())
    make_project(root, {"app.py": "print('changed')\n"})
    notes = Notes()
    await build(compiled_plan(workshop, root), workshop, notes)
    assert notes.states["bytecode of 1 package"] == "reused"


async def test_without_the_right_python_the_image_has_none_and_the_log_says_so(workshop: Workshop, root: Path) -> None:
    request = make_request("hello", python="3.8")
    notes = Notes()
    plan = make_plan(request, root, workshop.hashes, compiler_of=lambda _: None)
    await build(plan, workshop, notes)
    assert set(notes.states) == {"1 package", "program"}
    assert any("no python 3.8 here" in line for line in notes.logs)
    other = make_plan(request, root, workshop.hashes, compiler_of=lambda _: Interpreter("3.8", "python3.8", "00"))
    assert other.key != plan.key, "another image must not pass for this one"


async def test_of_two_packages_with_one_module_the_same_wins_as_source_and_as_bytecode(
    workshop: Workshop, root: Path, tmp_path: Path
) -> None:
    """Bytecode is not compared with its source: that of the other package would run instead."""
    make_wheel(tmp_path / "links", "aaa", files={"shared_name.py": "WHO = 'of aaa'\n"})
    make_wheel(tmp_path / "links", "zzz", files={"shared_name.py": "WHO = 'of zzz'\n"})
    notes = Notes()
    image = await build(compiled_plan(workshop, root, "aaa", "zzz"), workshop, notes)
    wheels, bytecode, _ = layers_of(workshop.layout, image)
    source = contents(workshop.layout, wheels)
    assert source[f"{SITE}/shared_name.py"] == b"WHO = 'of zzz'\n"
    assert b"of zzz" in contents(workshop.layout, bytecode)[f"{SITE}/__pycache__/shared_name.{TAG}.pyc"]
    for name in ("aaa", "zzz"):  # as pip leaves it: each lists what it brought
        assert b"shared_name.py," in source[f"{SITE}/{name}-1.0.dist-info/RECORD"]
    assert [line for line in notes.logs if "shared_name.py comes with several packages; the one of zzz" in line]


def _name(process: psutil.Process) -> str:
    try:
        return str(process.name())
    except psutil.NoSuchProcess:
        return ""


async def test_cancelling_ends_the_compilers(workshop: Workshop, root: Path, tmp_path: Path) -> None:
    slow = tmp_path / "slow"
    slow.write_text("#!/bin/sh\nexec sleep 100\n")
    slow.chmod(0o755)
    plan = make_plan(
        make_request("hello", python=PYTHON),
        root,
        workshop.hashes,
        compiler_of=lambda python: Interpreter(python, str(slow), "00"),
    )
    before = psutil.Process().children()

    task = asyncio.create_task(build(plan, workshop, Notes()))
    await until(lambda: "sleep" in map(_name, psutil.Process().children()))
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert psutil.Process().children() == before
    assert not list((workshop.folder / "scratch").iterdir())


async def test_a_compiler_that_fails_is_named(workshop: Workshop, root: Path) -> None:
    false = shutil.which("false")
    assert false
    plan = make_plan(
        make_request("hello", python=PYTHON),
        root,
        workshop.hashes,
        compiler_of=lambda python: Interpreter(python, false, "00"),
    )
    with pytest.raises(BuildError) as caught:
        await build(plan, workshop, Notes())
    assert caught.value.problem.code == "compile_failed" and "COMPILE_BYTECODE=0" in caught.value.problem.fix


def test_a_python_is_asked_what_it_is(tmp_path: Path) -> None:
    """A `python3.7` on PATH that is something else would make bytecode that no service can read."""
    impostor = tmp_path / "python3.7"
    impostor.symlink_to(sys.executable)
    (tmp_path / "python3.6").write_text("no program")
    found = Interpreters({"PATH": str(tmp_path)})
    assert found.find("3.7") is None and found.find("3.6") is None and found.find("3.5") is None
    own = found.find(PYTHON)
    assert own is not None and bytes.fromhex(own.magic) == importlib.util.MAGIC_NUMBER
