"""The whole build: what comes out, what is not done twice, and what is left when it fails or is cancelled."""

from __future__ import annotations

import asyncio
import json
import os
import random
import shutil
import subprocess
import sys
import tarfile
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import psutil
import pytest

from image_builder.contract import ImageReference
from image_builder.disk import PARTIAL
from image_builder.errors import BuildError, DiskFull, ResolveFailed, SourceChanged
from image_builder.oci.layout import Layout
from image_builder.pipeline import build
from image_builder.workshop import Workshop
from tests import needs
from tests.image_builder.wheels import (
    SCRIPT,
    Notes,
    make_project,
    make_request,
    make_wheel,
    offline,
    plan_of,
    sha256,
    until,
)
from tests.tars import extract

PYTHON = f"{sys.version_info[0]}.{sys.version_info[1]}"


@pytest.fixture
def links(tmp_path: Path) -> Path:
    folder = tmp_path / "links"
    make_wheel(folder, entry_points=SCRIPT, requires=("dep>=1",))
    make_wheel(folder, "dep", files={"dep.py": "x = 1\n"})
    return folder


@pytest.fixture
def root(tmp_path: Path) -> Path:
    make_project(tmp_path / "shared", {"app.py": "print('hi')\n", "w.pt": random.Random(1).randbytes(200_000)})
    return tmp_path / "shared"


@pytest.fixture
async def workshop(tmp_path: Path, links: Path) -> AsyncIterator[Workshop]:
    opened = Workshop.open(tmp_path / "state", offline(links))
    yield opened
    opened.close()


def check_blobs(layout: Layout) -> None:
    """Every visible blob is what its name says, and nothing half-written is left."""
    for path in (layout.folder / "blobs" / "sha256").iterdir():
        assert not path.name.startswith(PARTIAL)
        assert sha256(path.read_bytes()) == f"sha256:{path.name}"


def unpack(layout: Layout, image: ImageReference, target: Path) -> None:
    with layout.open_blob(image.digest) as file:
        layers = json.load(file)["layers"]
    for layer in layers:
        with tarfile.open(layout.path(layer["digest"]), "r:gz") as tar:
            extract(tar, target)


async def test_the_image_runs_over_this_machines_python(workshop: Workshop, root: Path, tmp_path: Path) -> None:
    plan = plan_of(make_request("hello", python=PYTHON, weights=("w.pt",)), root, workshop)
    notes = Notes()
    image = await build(plan, workshop, notes)
    assert image.repository == f"builds/{plan.id}" and workshop.layout.image(plan.id) == image.digest
    assert notes.steps == ["resolve", "fetch", "layers", "assemble"]
    assert notes.states == {"2 packages": "built", "weights": "built", "program": "built"}
    unpack(workshop.layout, image, tmp_path / "root")
    venv = tmp_path / "root" / "opt" / "venv"
    (venv / "pyvenv.cfg").write_text(f"home = {Path(sys.executable).resolve().parent}\n")
    (venv / "bin" / "python").symlink_to(Path(sys.executable).resolve())
    said = subprocess.run([venv / "bin" / "hello-script"], capture_output=True, text=True, check=True)
    assert said.stdout == "hello from a wheel\n"
    listed = subprocess.run(
        [venv / "bin" / "python", "-c", "import importlib.metadata as m; print(m.version('dep'), m.version('hello'))"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert listed.stdout == "1.0 1.0\n"
    assert (tmp_path / "root" / "workspace" / "w.pt").stat().st_size == 200_000


async def test_the_image_says_how_it_runs(workshop: Workshop, root: Path) -> None:
    plan = plan_of(make_request("hello", pre_exec=(("app.py", "x"),), port=9001), root, workshop)
    image = await build(plan, workshop, Notes())
    manifest = json.loads(workshop.layout.path(image.digest).read_bytes())
    config = json.loads(workshop.layout.path(manifest["config"]["digest"]).read_bytes())
    assert config["config"]["Entrypoint"] == ["python", "/opt/cloud-deploy/launch.py"]
    assert {"PORT=9001", "VIRTUAL_ENV=/opt/venv"} <= set(config["config"]["Env"])
    assert (config["os"], config["architecture"]) == ("linux", "amd64")
    assert config["config"]["Labels"]["io.tango.cloud-deploy.key"] == plan.key
    assert image.size == sum(layer["size"] for layer in manifest["layers"])
    assert len(config["rootfs"]["diff_ids"]) == len(manifest["layers"]) == len(config["history"])


async def test_the_same_inputs_give_the_same_digest_on_any_machine(root: Path, links: Path, tmp_path: Path) -> None:
    digests = set()
    for name in ("one", "two"):
        moved = tmp_path / name / "shared"
        shutil.copytree(root, moved)
        opened = Workshop.open(tmp_path / name / "state", offline(links))
        plan = plan_of(make_request("hello", weights=("w.pt",), pre_exec=(("app.py",),)), moved, opened)
        digests.add((await build(plan, opened, Notes())).digest)
        check_blobs(opened.layout)
        opened.close()
    assert len(digests) == 1


async def test_only_what_changed_is_made_again(workshop: Workshop, root: Path) -> None:
    request = make_request("hello", weights=("w.pt",))
    await build(plan_of(request, root, workshop), workshop, Notes())
    again = Notes()
    await build(plan_of(request, root, workshop), workshop, again)
    assert set(again.states.values()) == {"reused"}
    (root / "common/7/42/nn_model/app.py").write_text("print('changed')\n")
    changed = Notes()
    await build(plan_of(request, root, workshop), workshop, changed)
    assert changed.states == {"2 packages": "reused", "weights": "reused", "program": "built"}


async def test_a_lost_blob_is_made_again(workshop: Workshop, root: Path) -> None:
    plan = plan_of(make_request("hello"), root, workshop)
    image = await build(plan, workshop, Notes())
    manifest = json.loads(workshop.layout.path(image.digest).read_bytes())
    workshop.layout.path(manifest["layers"][0]["digest"]).unlink()
    assert await build(plan, workshop, Notes()) == image
    check_blobs(workshop.layout)


async def test_two_builds_at_once_make_each_layer_once(workshop: Workshop, root: Path) -> None:
    plan = plan_of(make_request("hello", weights=("w.pt",)), root, workshop)
    notes = [Notes() for _ in range(4)]
    images = await asyncio.gather(*(build(plan, workshop, note) for note in notes))
    assert len({image.digest for image in images}) == 1
    states = [state for note in notes for state in note.states.values()]
    assert states.count("built") == 3


async def test_the_lock_is_kept_when_the_index_moves_on(workshop: Workshop, root: Path, links: Path) -> None:
    plan = plan_of(make_request("hello"), root, workshop)
    first = await build(plan, workshop, Notes())
    make_wheel(links, version="2.0")
    assert await build(plan, workshop, Notes()) == first


async def test_a_wheel_that_was_replaced_is_resolved_again(workshop: Workshop, root: Path, links: Path) -> None:
    """A rebuilt wheel of the same name in find-links must not end every later build."""
    await build(plan_of(make_request("hello"), root, workshop), workshop, Notes())
    shutil.rmtree(workshop.folder / "layers")
    workshop.index.prepare()
    make_wheel(links, files={"hello/__init__.py": "def main(): return 3\n"}, requires=("dep>=1",))
    notes = Notes()
    await build(plan_of(make_request("hello"), root, workshop), workshop, notes)
    assert notes.steps.count("resolve") == 2


async def test_a_file_that_changes_during_the_build_is_not_deployed(workshop: Workshop, root: Path) -> None:
    plan = plan_of(make_request(), root, workshop)
    (root / "common/7/42/nn_model/app.py").write_text("print('other')\n")
    with pytest.raises(SourceChanged, match=r"app\.py"):
        await build(plan, workshop, Notes())
    check_blobs(workshop.layout)


async def test_an_unknown_package_names_the_line_of_the_yaml(workshop: Workshop, root: Path) -> None:
    plan = plan_of(make_request("hello", "nosuch-package"), root, workshop)
    with pytest.raises(ResolveFailed) as caught:
        await build(plan, workshop, Notes())
    problem = caught.value.problem
    assert problem.code == "package_not_found" and not problem.retryable
    assert problem.cause.startswith("deployment.yaml:10:13: build.components.libs[1]: nosuch-package")


@pytest.mark.parametrize(
    "moment", ["resolve", "fetch", "layers", "assemble", "wheels:building", "weights:building", "program:waiting"]
)
async def test_cancelling_leaves_nothing_behind(workshop: Workshop, root: Path, moment: str) -> None:
    make_project(root, {"w.pt": random.Random(5).randbytes(8_000_000)})
    plan = plan_of(make_request("hello", weights=("w.pt",)), root, workshop)
    loop, reached = asyncio.get_running_loop(), asyncio.Event()
    task: asyncio.Task[ImageReference]

    def at(happened: str) -> None:
        if happened == moment and not reached.is_set():
            loop.call_soon_threadsafe(task.cancel)
            loop.call_soon_threadsafe(reached.set)

    before = psutil.Process().children()
    task = asyncio.create_task(build(plan, workshop, Notes(at)))
    with pytest.raises(asyncio.CancelledError):
        await task
    assert reached.is_set()
    assert psutil.Process().children() == before
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("side-hash")]
    assert not list(workshop.folder.rglob(f"{PARTIAL}*"))
    check_blobs(workshop.layout)
    await build(plan, workshop, Notes())


async def test_cancelling_ends_the_resolver(workshop: Workshop, root: Path, tmp_path: Path) -> None:
    """uv waits for an index that never answers; its process must not outlive the build."""
    asked = asyncio.Event()

    async def silent(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.set()
        await task_ended.wait()
        writer.close()

    task_ended = asyncio.Event()
    never = await asyncio.start_server(silent, "127.0.0.1", 0)
    port = never.sockets[0].getsockname()[1]
    environ = {**offline(tmp_path), "UV_DEFAULT_INDEX": f"http://127.0.0.1:{port}/simple"}
    del environ["UV_NO_INDEX"]
    opened = Workshop.open(tmp_path / "other", environ)
    before = psutil.Process().children()
    task = asyncio.create_task(build(plan_of(make_request("hello"), root, opened), opened, Notes()))
    async with never:
        await until(asked.is_set)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert psutil.Process().children() == before
        task_ended.set()
    opened.close()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    needs.linux("a tmpfs")
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(
        [needs.program("mount"), "-t", "tmpfs", "-o", "size=4m", "tmpfs", folder], capture_output=True, check=False
    )
    if mounted.returncode:
        needs.missing("mounting a tmpfs needs root")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


async def test_a_full_disk_is_named_and_the_build_goes_on_when_there_is_room(
    small_disk: Path, root: Path, links: Path
) -> None:
    make_project(root, {"w.pt": random.Random(6).randbytes(3_000_000)})
    opened = Workshop.open(small_disk, offline(links))
    plan = plan_of(make_request("hello", weights=("w.pt",)), root, opened)
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(2_000_000))
    with pytest.raises(DiskFull) as caught:
        await build(plan, opened, Notes())
    assert str(opened.folder) in caught.value.problem.cause and "MB needed" in caught.value.problem.cause
    assert caught.value.problem.retryable
    assert not list(opened.folder.rglob(f"{PARTIAL}*"))
    ballast.unlink()
    await build(plan, opened, Notes())
    check_blobs(opened.layout)
    opened.close()


async def test_errors_of_every_kind_are_for_people(workshop: Workshop, root: Path) -> None:
    for text in ("dep==9", "dep<1", "hello[nope]>3"):
        with pytest.raises(BuildError) as caught:
            await build(plan_of(make_request(text), root, workshop), workshop, Notes())
        assert "\n" not in caught.value.problem.cause and caught.value.problem.fix


async def test_others_can_read_the_image(workshop: Workshop, root: Path, tmp_path: Path) -> None:
    """skopeo and umoci stand for all that read OCI images: they check every digest."""
    skopeo = needs.program("skopeo")
    plan = plan_of(make_request("hello", weights=("w.pt",), pre_exec=(("app.py",),)), root, workshop)
    image = await build(plan, workshop, Notes())
    where = f"oci:{workshop.layout.folder}:{plan.id}"
    shown = json.loads(subprocess.run([skopeo, "inspect", where], capture_output=True, check=True).stdout)
    assert shown["Digest"] == image.digest
    copied = tmp_path / "copied"
    subprocess.run([skopeo, "copy", "--insecure-policy", where, f"oci:{copied}:x"], check=True, capture_output=True)
    subprocess.run(
        [skopeo, "copy", "--insecure-policy", where, f"docker-archive:{tmp_path / 'x.tar'}:x:y"],
        check=True,
        capture_output=True,
    )


async def test_umoci_unpacks_the_image(workshop: Workshop, root: Path, tmp_path: Path) -> None:
    umoci = needs.program("umoci")
    plan = plan_of(make_request("hello", weights=("w.pt",)), root, workshop)
    await build(plan, workshop, Notes())
    rootless = [] if os.geteuid() == 0 else ["--rootless"]
    bundle = tmp_path / "bundle"
    subprocess.run(
        [umoci, "unpack", *rootless, "--image", f"{workshop.layout.folder}:{plan.id}", bundle],
        check=True,
        capture_output=True,
    )
    top = bundle / "rootfs"
    assert (top / "workspace" / "app.py").read_text() == "print('hi')\n"
    assert os.access(top / "opt" / "venv" / "bin" / "hello-script", os.X_OK)
