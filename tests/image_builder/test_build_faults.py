"""Whole builds that meet a faulty registry, a full disk, or nobody who waits for them any more."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import json
import random
import secrets
import shutil
import subprocess
import threading
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from image_builder.contract import ImageReference
from image_builder.disk import PARTIAL
from image_builder.errors import BuildError, DiskFull
from image_builder.file_hashes import FileHashes
from image_builder.pipeline import build
from image_builder.workshop import Network, Workshop
from tests import needs
from tests.base_image import PYTHON_TREE, layer_of, tiny_base
from tests.faulty_proxy import Fault, FaultyProxy
from tests.image_builder.test_base_build import tags
from tests.image_builder.test_pipeline import check_blobs
from tests.image_builder.wheels import Notes, make_project, make_request, make_wheel, offline, plan_of, sha256, until

PHASES = ("base", "resolve", "fetch", "layers", "assemble", "push")


class Bench:
    """A builder whose only way to the registry leads through the proxy. `slept`: seconds that it wanted to wait."""

    def __init__(self, folder: Path, state: Path, proxy: FaultyProxy) -> None:
        self.shared, self.proxy = folder / "shared", proxy
        self.slept: list[float] = []
        self.name = secrets.token_hex(4)
        make_wheel(folder / "links", files={"hello/data.bin": random.Random(2).randbytes(150_000)})
        make_project(self.shared, {"app.py": "print('hi')\n", "w.pt": random.Random(1).randbytes(1_200_000)})
        self.workshop = Workshop.open(state, offline(folder / "links"), Network(sleep=self._sleep))

    async def _sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        await asyncio.sleep(0)

    def change(self, text: str) -> None:
        """Program and weights; these are sent piece by piece, the program in one."""
        data = random.Random(text).randbytes(1_200_000)
        make_project(self.shared, {"app.py": f"print('{text}')\n", "w.pt": data})

    @property
    def push(self) -> str:
        return f"{self.proxy.address}/{self.name}/model:1"

    async def build(self, notes: Notes | None = None, **more: Any) -> ImageReference:
        request = make_request("hello", push=self.push, weights=("w.pt",), **more)
        return await build(plan_of(request, self.shared, self.workshop), self.workshop, notes or Notes())

    def is_clean(self) -> bool:
        """Nothing half-written, and every blob is what its name says."""
        check_blobs(self.workshop.layout)
        return not list(self.workshop.folder.rglob(f"{PARTIAL}*"))


@pytest.fixture
async def proxy(registry: str) -> AsyncIterator[FaultyProxy]:
    async with FaultyProxy(registry).serving() as serving:
        yield serving


@pytest.fixture
async def bench(tmp_path: Path, proxy: FaultyProxy) -> AsyncIterator[Bench]:
    made = Bench(tmp_path, tmp_path / "state", proxy)
    yield made
    made.workshop.close()


def times(count: int, method: str, part: str, fault: Fault) -> Any:
    """The rule: the first `count` requests of this kind meet the fault."""
    left = [count]

    def rule(asked: str, path: str) -> Fault | None:
        if asked != method or part not in path or not left[0]:
            return None
        left[0] -= 1
        return fault

    return rule


CALLS = [("HEAD", "/blobs/"), ("POST", "/blobs/uploads/"), ("PATCH", "/uploads/"), ("PUT", "/uploads/"),
         ("HEAD", "/manifests/"), ("PUT", "/manifests/")]  # fmt: skip


@pytest.mark.parametrize(("status", "calls"), [(429, CALLS[::3]), (500, CALLS[1::3]), (503, CALLS[2::3])])
async def test_a_registry_that_is_busy_is_waited_for(
    bench: Bench, proxy: FaultyProxy, status: int, calls: list[tuple[str, str]]
) -> None:
    """Otherwise each restart of a registry, and each limit of its rate, fails the deployments of that minute."""
    for method, part in calls:
        bench.change(f"{method} {part}")
        bench.slept.clear()
        proxy.rule = times(2, method, part, Fault(status=status, headers={"Retry-After": "7"}))
        image = await bench.build()
        assert bench.slept == [7.0, 7.0], (method, part)
        assert image.pushed and tags(proxy.registry, f"{bench.name}/model") == ["1"]
    assert bench.is_clean()


@pytest.mark.parametrize(("status", "retryable"), [(401, False), (403, False), (404, False), (429, True), (503, True)])
async def test_a_refusal_ends_the_build_and_the_next_one_works(
    bench: Bench, proxy: FaultyProxy, status: int, retryable: bool
) -> None:
    """Otherwise a wrong password waits for ever, or leaves something that keeps the right one from working. Here all
    has been sent but the tag; `test_base_build.py` has a registry that refuses at once."""
    proxy.rule = times(1000, "PUT", "/manifests/", Fault(status=status))
    with pytest.raises(BuildError) as caught:
        await bench.build()
    assert caught.value.problem.retryable is retryable
    assert proxy.address in caught.value.problem.cause and str(status) in caught.value.problem.cause
    assert tags(proxy.registry, f"{bench.name}/model") == []
    proxy.rule = lambda _method, _path: None
    assert (await bench.build()).pushed and bench.is_clean()


async def test_a_reset_upload_sends_no_other_blob_again(bench: Bench, proxy: FaultyProxy) -> None:
    """Otherwise one bad moment of the line costs the whole image's bytes once more."""
    cut = Fault(reset_after=300_000)  # one blob is so large
    proxy.rule = lambda method, _: cut if method == "PATCH" and not proxy.resets else None
    image = await bench.build()
    rows = json.loads(bench.workshop.layout.path(image.digest).read_bytes())
    sizes = {row["digest"]: row["size"] for row in [*rows["layers"], rows["config"]]}
    ours = {upload: digest for upload, digest in proxy.committed.items() if digest in sizes}
    assert sorted(ours.values()) == sorted(sizes), "each blob came once"
    whole = [upload for upload, digest in ours.items() if proxy.uploads[upload] == sizes[digest]]
    assert len(whole) >= len(sizes) - 1, "no other goes on, or begins anew"
    sent = sum(size for upload, size in proxy.uploads.items() if upload in ours or upload not in proxy.committed)
    assert sent <= sum(sizes.values()) + 300_000 + 65_536
    assert (proxy.resets, len(bench.slept)) == (1, 1) and tags(proxy.registry, f"{bench.name}/model") == ["1"]


async def test_a_registry_that_understood_something_else_is_told(bench: Bench, proxy: FaultyProxy) -> None:
    """Otherwise an image is deployed by a digest that names nothing, or something else."""
    other = {"Docker-Content-Digest": f"sha256:{'0' * 64}"}
    proxy.rule = times(1, "PUT", "/model/manifests/1", Fault(headers=other))
    with pytest.raises(BuildError, match="0000") as caught:
        await bench.build()
    assert (caught.value.problem.code, caught.value.problem.retryable) == ("wrong_digest", True)
    proxy.asked.clear()
    assert (await bench.build()).pushed
    assert not [line for line in proxy.asked if line.startswith(f"POST /v2/{bench.name}/model/")]


LARGE = {"blob": random.Random(3).randbytes(3_000_000)}
LARGE_DIGEST = sha256(gzip.compress(layer_of(LARGE), mtime=0))


async def based(bench: Bench) -> str:
    """A base with a layer that is large enough to be cut; it lies behind the proxy, as all does."""
    trees = [PYTHON_TREE, LARGE]
    return await asyncio.to_thread(tiny_base, bench.proxy.address, f"{bench.name}/base", trees)


async def test_a_truncated_layer_of_the_base_is_never_kept(bench: Bench, proxy: FaultyProxy) -> None:
    """Otherwise a proxy that cuts what it carries breaks all later builds, until somebody deletes files by hand."""
    base = await based(bench)
    proxy.rule = times(1000, "GET", LARGE_DIGEST, Fault(shorten_to=100_000))
    with pytest.raises(BuildError) as caught:
        await bench.build(base_image=base)
    problem = caught.value.problem
    assert (problem.code, problem.retryable) == ("wrong_digest", True)
    assert LARGE_DIGEST in problem.cause and "after 100000 bytes" in problem.cause
    assert bench.is_clean() and not bench.workshop.layout.has(LARGE_DIGEST)
    proxy.rule = lambda _method, _path: None
    assert (await bench.build(base_image=base)).pushed and bench.is_clean()


async def test_a_broken_download_of_the_base_goes_on_where_it_broke(bench: Bench, proxy: FaultyProxy) -> None:
    """Otherwise a bad line means fetching gigabytes again and again, and the layers that were whole as well."""
    base = await based(bench)
    proxy.rule = times(1, "GET", LARGE_DIGEST, Fault(break_after=2_500_000))
    assert (await bench.build(base_image=base)).pushed and bench.is_clean()
    fetched = Counter(line for line in proxy.asked if line.startswith(f"GET /v2/{bench.name}/base/blobs/"))
    assert sorted(fetched.values()) == [1, 1, 2], "configuration, small layer, large layer"
    assert proxy.ranges == [f"bytes={2 << 20}-"], "it is read in pieces of 1 MiB"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    needs.root_on_linux("mounting a small tmpfs")
    folder = tmp_path / "small"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=12m", "tmpfs", folder], check=True)
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


def fill(folder: Path) -> None:
    """Leave no room at all."""
    with (folder / "ballast").open("ab", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(bytes(4096)):
            pass


@pytest.mark.parametrize("phase", PHASES)
async def test_a_disk_that_is_full_is_named_in_every_phase(
    tmp_path: Path, small_disk: Path, proxy: FaultyProxy, phase: str
) -> None:
    """Otherwise a full disk is "an internal error", or leaves half a file that a later build takes for a whole one."""
    bench = Bench(tmp_path, small_disk, proxy)
    base = await based(bench)
    notes = Notes(lambda told: fill(small_disk) if told == phase else None)
    try:
        published = (await bench.build(notes, base_image=base)).pushed
        assert phase == "push" and published, "only what is whole already needs no room any more"
    except DiskFull as error:
        assert error.problem.retryable and str(small_disk) in error.problem.cause
        assert tags(proxy.registry, f"{bench.name}/model") == []
    assert (small_disk / "ballast").exists() and bench.is_clean()
    (small_disk / "ballast").unlink()
    assert (await bench.build(base_image=base)).pushed and bench.is_clean()
    bench.workshop.close()


def test_hashes_of_files_need_no_room(small_disk: Path) -> None:
    """Otherwise a full disk fails builds that would have written nothing."""
    hashes = FileHashes(small_disk / "hashes.sqlite")
    fill(small_disk)
    for path in sorted(Path(__file__).parent.glob("*.py")):
        assert hashes.sha256(path) == hashes.sha256(path)
    hashes.close()


def test_torn_hashes_and_a_full_disk_at_the_start_are_no_traceback(small_disk: Path) -> None:
    """Otherwise a power cut, or a full disk, means that somebody must repair files by hand before it starts again."""
    (small_disk / "builder").mkdir()
    (small_disk / "builder" / "hashes.sqlite").write_bytes(b"torn" * 5000)
    workshop = Workshop.open(small_disk, {})
    assert workshop.hashes.sha256(Path(__file__)) == workshop.hashes.sha256(Path(__file__))
    workshop.close()
    shutil.rmtree(small_disk / "builder")
    fill(small_disk)
    with pytest.raises(DiskFull):
        Workshop.open(small_disk, {})


@pytest.mark.parametrize("phase", [*PHASES, "base:fetching", "weights:pushing"])
async def test_cancelled_in_every_phase_nothing_runs_and_nothing_is_left(
    bench: Bench, proxy: FaultyProxy, phase: str
) -> None:
    """Otherwise what nobody wants any more goes on: a process, a connection, half a file, or a tag."""
    base = await based(bench)
    make_project(bench.shared, {"w.pt": random.Random(4).randbytes(8_000_000)})
    loop, reached = asyncio.get_running_loop(), asyncio.Event()
    task: asyncio.Task[ImageReference]

    def at(told: str) -> None:
        if told == phase and not reached.is_set():
            loop.call_soon_threadsafe(task.cancel)
            loop.call_soon_threadsafe(reached.set)

    before = psutil.Process().children()
    task = asyncio.create_task(bench.build(Notes(at), base_image=base))
    with pytest.raises(asyncio.CancelledError):
        await task
    assert reached.is_set() and psutil.Process().children() == before
    assert not [thread.name for thread in threading.enumerate() if thread.name.startswith("side-hash")]
    await until(lambda: proxy.open == 0)
    assert tags(proxy.registry, f"{bench.name}/model") == []
    assert bench.is_clean()
    assert (await bench.build(base_image=base)).pushed
