"""The cache on a real disk: it stays below its bound, and takes nothing from whoever builds."""

from __future__ import annotations

import json
import os
import random
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from image_builder.cache import Cache
from image_builder.cache_verify import verify
from image_builder.contract import CacheCleared, ImageReference
from image_builder.errors import BuildError
from image_builder.file_hashes import FileHashes
from image_builder.index_credentials import without_credentials
from image_builder.kept_image import is_whole
from image_builder.leases import Leases
from image_builder.oci.image import descriptor
from image_builder.oci.layout import Layout
from image_builder.oci.pushed import Pushed
from image_builder.oci.reference import parse
from image_builder.pipeline import build
from image_builder.work import StopFlag
from image_builder.workshop import Workshop
from tests.cloud_manager.test_cli import cloud_deploy
from tests.fakes.pipeline import image_of, layout_at
from tests.image_builder.package_index import serving_index
from tests.image_builder.service import ROOT, Service, serving
from tests.image_builder.wheels import Notes, make_project, make_request, make_wheel, offline, plan_of, sha256
from tests.integration.stack import until

NOBODY: frozenset[str] = frozenset()


def cache_of(folder: Path, bound: int) -> Cache:
    return Cache(folder, Leases(folder), bound)


def clear(folder: Path, bound: int, newest: frozenset[str] = NOBODY) -> CacheCleared:
    return cache_of(folder, bound).clear(newest, StopFlag())


def disk_usage(folder: Path) -> int:
    """Bytes, as another program counts them; folders themselves take a little."""
    done = subprocess.run(["du", "-sk", folder], check=True, capture_output=True, text=True)
    return int(done.stdout.split()[0]) * 1024


def named(layout: Layout, name: str, text: bytes) -> ImageReference:
    image = image_of(layout, name, text)
    manifest = layout.path(image.digest).read_bytes()
    layout.name_image(name, descriptor(manifest, "linux/amd64"))
    return image


def is_sound(folder: Path) -> bool:
    """Every blob is what its name says, and every image that has a name is whole."""
    layout = Layout(folder / "images")
    blobs = (folder / "images/blobs/sha256").iterdir()
    assert all(sha256(path.read_bytes()) == f"sha256:{path.name}" for path in blobs if len(path.name) == 64)
    return all(is_whole(layout, digest) for digest in layout.images().values())


def test_an_empty_folder_has_nothing_to_clear(tmp_path: Path) -> None:
    """Otherwise a builder does not start on a new machine."""
    done = clear(tmp_path, 1)
    assert (done.gone, done.verified) == ((), 0)
    assert cache_of(tmp_path, 1).view(NOBODY).would_go == ()


async def test_ten_builds_stay_below_a_bound_of_two(tmp_path: Path) -> None:
    """Otherwise a disk fills up, or each build makes all anew."""
    links = tmp_path / "links"
    make_wheel(links, files={"hello.py": "x = 1\n"})
    folder = tmp_path / "state" / "builder"
    workshop = Workshop.open(tmp_path / "state", offline(links))
    images, bound = [], 0
    for number in range(10):
        program = make_project(tmp_path / "shared", {"app.py": random.Random(number).randbytes(400_000)})
        images.append(await build(plan_of(make_request("hello"), tmp_path / "shared", workshop), workshop, Notes()))
        if number == 1:
            bound = cache_of(folder, 0).size() + 20_000
        if number >= 1:
            done = clear(folder, bound, frozenset({images[-1].digest}))
            assert done.after <= bound
            assert disk_usage(folder) <= bound + 100_000
            assert is_sound(folder)
            assert is_whole(workshop.layout, images[-1].digest)
    there = [is_whole(Layout(folder / "images"), image.digest) for image in images]
    assert there == [False] * 8 + [True] * 2
    program.joinpath("app.py").write_bytes(random.Random(0).randbytes(400_000))
    again = await build(plan_of(make_request("hello"), tmp_path / "shared", workshop), workshop, Notes())
    assert again == images[0]
    workshop.close()


_BUILDER = """
import sys, pathlib
from image_builder.leases import Leases
from image_builder.oci.layout import Layout
folder, digest = pathlib.Path(sys.argv[1]), sys.argv[2]
leases = Leases(folder)
with leases.taken():
    print(Layout(folder / "images", leases.use).has(digest), flush=True)
    sys.stdin.read()
"""


@contextmanager
def another_builder(folder: Path, digest: str) -> Iterator[subprocess.Popen[str]]:
    """A process with a build under way that counts on a blob."""
    command = [sys.executable, "-c", _BUILDER, str(folder), digest]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, cwd=ROOT, text=True, **pipes) as process:
        assert process.stdout is not None and process.stdout.readline() == "True\n"
        try:
            yield process
        finally:
            process.kill()


def test_what_a_build_of_another_process_counts_on_stays(tmp_path: Path) -> None:
    """Otherwise two builders on one volume publish images without their layers."""
    layout = layout_at(tmp_path / "images")
    used, other = layout.add(b"a layer" * 10_000), layout.add(b"another" * 10_000)
    with another_builder(tmp_path, used) as process:
        clear(tmp_path, 1)
        assert layout.has(used) and not layout.has(other)
        process.kill()
        process.wait()
        clear(tmp_path, 1)
    assert not layout.has(used)
    assert list((tmp_path / "leases").iterdir()) == []


def test_a_build_in_this_process_keeps_what_it_made_and_found(tmp_path: Path) -> None:
    """Otherwise the second layer of an image pushes out its first."""
    leases = Leases(tmp_path)
    layout_at(tmp_path / "images")
    layout = Layout(tmp_path / "images", leases.use)
    before = layout.add(b"was there" * 1000)
    with leases.taken():
        made = layout.add(b"is new" * 1000)
        assert layout.size(before)
        assert clear(tmp_path, 1).gone == ()
    assert {thing.name for thing in clear(tmp_path, 1).gone} == {before, made}


_CLEARER = """
import sys, pathlib
from image_builder.cache import Cache
from image_builder.leases import Leases
from image_builder.work import StopFlag
folder = pathlib.Path(sys.argv[1])
print("begin", flush=True)
Cache(folder, Leases(folder), 1).clear(frozenset(), StopFlag())
"""


@pytest.mark.parametrize("seed", range(6))
def test_a_clearing_that_is_killed_leaves_a_sound_store(tmp_path: Path, seed: int) -> None:
    """Otherwise a power cut while it clears costs all images, or one that is broken is deployed."""
    layout = layout_at(tmp_path / "images")
    for number in range(40):
        named(layout, f"{number:032x}", f"{seed} {number}".encode())
    command = [sys.executable, "-c", _CLEARER, str(tmp_path)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdout.readline() == "begin\n"
        goal = random.Random(seed).randrange(20, 115)  # blobs are 120
        blobs = tmp_path / "images/blobs/sha256"
        deadline = time.monotonic() + 20
        while process.poll() is None and len(list(blobs.iterdir())) > goal and time.monotonic() < deadline:
            pass
        process.kill()
    assert is_sound(tmp_path)
    assert verify(cache_of(tmp_path, 0), tmp_path, StopFlag(), dry_run=False)[1] == []
    clear(tmp_path, 1)
    assert layout.images() == {} and list(blobs.iterdir()) == []


def test_looking_is_no_use_but_asking_is(tmp_path: Path) -> None:
    """Otherwise whoever lists the images decides which of them stay."""
    layout = Layout(layout_at(tmp_path / "images").folder, Leases(tmp_path).use)
    first, second = named(layout, "a" * 32, b"1" * 9000), named(layout, "b" * 32, b"2" * 9000)
    for count, image in enumerate((first, second), 1):
        os.utime(layout.path(image.digest), (count, count))
    cache = cache_of(tmp_path, 1)
    assert cache.keeps(first.digest)
    assert [thing.name for thing in cache.view(NOBODY).would_go][:1] == [f"builds/{'a' * 32}"]
    assert is_whole(layout, first.digest)  # as POST /builds asks
    assert next(thing.name for thing in cache.view(NOBODY).would_go if thing.kind == "image") == f"builds/{'b' * 32}"


def test_pinned_images_survive_every_bound_until_they_are_let_go(tmp_path: Path) -> None:
    """Else a running service, or the way back to the one before, would depend on how full the disk is."""
    layout = layout_at(tmp_path / "images")
    old, new = named(layout, "a" * 32, b"old"), named(layout, "b" * 32, b"new")
    cache_of(tmp_path, 1).pin("7/42", (old.digest,))
    assert [thing.name for thing in clear(tmp_path, 1).gone if thing.kind == "image"] == [f"builds/{'b' * 32}"]
    assert (is_whole(layout, old.digest), is_whole(layout, new.digest)) == (True, False)
    cache_of(tmp_path, 1).pin("7/42", ())
    assert [thing.name for thing in clear(tmp_path, 1).gone if thing.kind == "image"] == [f"builds/{'a' * 32}"]


def test_an_image_pinned_while_the_cache_is_cleared_is_left_alone(tmp_path: Path) -> None:
    layout = layout_at(tmp_path / "images")
    image = named(layout, "a" * 32, b"old")
    os.utime(layout.path(image.digest), (1.0, 1.0))

    class PinnedNow(StopFlag):
        def check(self) -> None:
            cache_of(tmp_path, 1).pin("7/42", (image.digest,))

    cache_of(tmp_path, 1).clear(NOBODY, PinnedNow())
    assert is_whole(layout, image.digest)


def test_verify_removes_what_is_corrupt_and_says_so(tmp_path: Path) -> None:
    """Otherwise bit rot is deployed, or found by the engine that refuses the image."""
    layout = layout_at(tmp_path / "images")
    good, bad = named(layout, "a" * 32, b"good"), named(layout, "b" * 32, b"bad")
    part = json.loads(layout.path(bad.digest).read_bytes())["layers"][0]["digest"]
    data = bytearray(layout.path(part).read_bytes())
    data[len(data) // 2] ^= 1
    layout.path(part).write_bytes(data)
    cache = cache_of(tmp_path, 0)
    count, gone = verify(cache, tmp_path, StopFlag(), dry_run=True)
    assert (count, [thing.name for thing in gone]) == (6, [part]) and layout.has(part)
    verify(cache, tmp_path, StopFlag(), dry_run=False)
    assert not layout.has(part)
    assert [thing.why for thing in clear(tmp_path, 0).gone] == ["incomplete"]
    assert layout.images() == {"a" * 32: good.digest}


def test_a_published_image_may_miss_its_base(tmp_path: Path) -> None:
    """Otherwise each clearing takes what was built on a base that lies in a registry only."""
    layout = layout_at(tmp_path / "images")
    image = named(layout, "a" * 32, b"over a base")
    layout.path(json.loads(layout.path(image.digest).read_bytes())["layers"][0]["digest"]).unlink()
    cache = cache_of(tmp_path, 0)
    assert cache.clear(NOBODY, StopFlag(), published=frozenset({image.digest})).gone == ()
    assert [thing.why for thing in cache.clear(NOBODY, StopFlag()).gone] == ["incomplete"]


def test_an_image_that_another_builder_published_may_miss_its_base_too(tmp_path: Path) -> None:
    """Otherwise each builder on the volume forgets what the others have published."""
    layout = layout_at(tmp_path / "images")
    image = named(layout, "a" * 32, b"over a base")
    missing = json.loads(layout.path(image.digest).read_bytes())["layers"][0]["digest"]
    layout.path(missing).unlink()
    Pushed(tmp_path / "pushed").remember(parse("registry.test/model:1"), missing)
    assert clear(tmp_path, 0).gone == () and clear(tmp_path, 1).gone != ()


def test_what_a_builder_has_for_itself_is_no_matter_of_another(tmp_path: Path) -> None:
    """Otherwise one builder counts, or clears, the records and hashes of another whose folder it shares."""
    cache, own = tmp_path / "cache", tmp_path / "own"
    layout = layout_at(cache / "images")
    named(layout, "a" * 32, b"an image")
    for folder in (cache, own):
        (folder / "builds/x").mkdir(parents=True)
        (folder / "builds/x/status.json").write_bytes(bytes(3_000))
    (cache / "hashes.sqlite").write_bytes(bytes(3_000_000))
    FileHashes(own / "hashes.sqlite").close()
    shared = Cache(cache, Leases(cache), 1_000_000, own)
    rows = {row.kind: (row.count, row.size) for row in shared.view(NOBODY).kinds}
    assert rows["record"][0] == 1 and rows["hashes"][1] < 1_000_000 and rows["blob"][0] == 3
    assert shared.clear(NOBODY, StopFlag()).gone == ()
    assert (cache / "hashes.sqlite").stat().st_size == 3_000_000


def test_too_many_file_hashes_are_forgotten(tmp_path: Path) -> None:
    """Otherwise the hashes of projects long gone fill the disk, for they never grow old."""
    database = tmp_path / "hashes.sqlite"
    with closing(FileHashes(database)) as hashes, closing(sqlite3.connect(database, isolation_level=None)) as rows:
        many = ((1, number, 0, 0, 0, "0" * 64) for number in range(20_000))
        rows.execute("begin")
        rows.executemany("insert into hashes values (?,?,?,?,?,?)", many)
        rows.execute("commit")
        (thing,) = clear(tmp_path, 1_000_000).gone
        assert (thing.kind, thing.why) == ("hashes", "too large")
        assert database.stat().st_size < 100_000
        assert hashes.sha256(Path(__file__)) == sha256(Path(__file__).read_bytes()).removeprefix("sha256:")


def test_a_damaged_index_is_told_and_mended(tmp_path: Path) -> None:
    """Otherwise one torn sector ends all clearing, with a traceback for a reason."""
    layout = layout_at(tmp_path / "images")
    named(layout, "a" * 32, b"good")
    (tmp_path / "images/index.json").write_bytes(b'{"manifests": [')
    with pytest.raises(BuildError, match="gc --verify"):
        clear(tmp_path, 1)
    _count, gone = verify(cache_of(tmp_path, 0), tmp_path, StopFlag(), dry_run=False)
    assert [thing.name for thing in gone] == ["images/index.json"]
    assert layout.images() == {} and clear(tmp_path, 0).gone == ()


@pytest.fixture
def shared(tmp_path: Path) -> Path:
    make_project(tmp_path / "shared")
    return tmp_path / "shared"


def built(service: Service, shared: Path, number: int, owner: str = "7/42") -> dict[str, str]:
    """The image of one version of the program."""
    make_project(shared, {"main.py": random.Random(number).randbytes(300_000)})
    build_id = service.ask(base_image="scratch", owner=owner)["id"]
    return dict(service.wait(build_id, "succeeded")["image"])


def listed(service: Service) -> list[str]:
    return [row["digest"] for row in service.http.get("/images").json()]


def test_the_service_keeps_itself_below_its_bound(
    tmp_path: Path, shared: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Otherwise the bound holds only where somebody runs gc; and what went must come again when it is asked for."""
    monkeypatch.setenv("CACHE_MAX_BYTES", "1M")
    monkeypatch.setenv("BUILD_HISTORY", "1")
    with serving(tmp_path / "state", shared) as service:
        images = [built(service, shared, number) for number in range(6)]
        until("the cache is cleared", lambda: service.http.get("/cache").json()["size"] <= 1_000_000, 20)
        until("old records are gone", lambda: len(service.http.get("/builds").json()) <= 3, 20)
        assert images[-1]["digest"] == listed(service)[0] and images[0]["digest"] not in listed(service)
        where = f"/v2/{images[0]['repository']}/manifests/{images[0]['digest']}"
        assert service.http.get(where).json()["errors"][0]["code"] in ("MANIFEST_UNKNOWN", "NAME_UNKNOWN")
        assert built(service, shared, 0) == images[0]
        assert service.http.get(where).status_code == 200
        assert cloud_deploy("gc", "--dry-run", "--verify", "--builder", service.url) == 0
        printed = capsys.readouterr().out
        assert "CACHE_MAX_BYTES is 1.0 MB" in printed and "none of them corrupt" in printed
        assert cloud_deploy("gc", "--json", "--builder", service.url) == 0
        assert json.loads(capsys.readouterr().out)["after"] <= 1_000_000
    assert is_sound(tmp_path / "state" / "builder")


def test_gc_shows_what_goes(
    tmp_path: Path, shared: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Otherwise nobody dares to run it."""
    monkeypatch.setenv("CACHE_MAX_BYTES", "0")
    with serving(tmp_path / "state", shared) as service:
        image = built(service, shared, 1)
        manifest = tmp_path / "state/builder/images/blobs/sha256" / image["digest"].removeprefix("sha256:")
        layer = json.loads(manifest.read_bytes())["layers"][0]["digest"]
        (manifest.parent / layer.removeprefix("sha256:")).write_bytes(b"rotten")
        assert cloud_deploy("gc", "--verify", "--builder", service.url) == 0
        printed = capsys.readouterr().out
        assert layer in printed and "corrupt" in printed
        assert f"{image['repository']}" in printed and "incomplete" in printed
        assert listed(service) == []
        assert built(service, shared, 1) == image
        assert listed(service) == [image["digest"]]


async def test_credentials_of_an_index_are_used_and_not_kept(tmp_path: Path) -> None:
    """Otherwise a password lies in files and logs that many may read."""
    make_wheel(tmp_path / "links", files={"hello.py": "x = 1\n"})
    make_project(tmp_path / "shared")
    with serving_index(tmp_path / "links", user="me", password="s3cr3t") as host:
        environ = offline(tmp_path / "links", UV_DEFAULT_INDEX=f"http://me:s3cr3t@{host}/simple")
        environ = {name: value for name, value in environ.items() if name not in ("UV_NO_INDEX", "UV_FIND_LINKS")}
        workshop = Workshop.open(tmp_path / "state", environ)
        notes = Notes()
        await build(plan_of(make_request("hello"), tmp_path / "shared", workshop), workshop, notes)
        assert list((tmp_path / "state/builder/locks").glob("*.toml"))
        workshop.close()
    kept = [path for path in (tmp_path / "state").rglob("*") if path.is_file() and b"s3cr3t" in path.read_bytes()]
    assert kept == [] and "s3cr3t" not in " ".join(notes.logs)
    assert (tmp_path / "state/builder").stat().st_mode & 0o777 == 0o700


def test_only_the_indexes_addresses_lose_their_credentials() -> None:
    environ = {"UV_INDEX": "mine=https://me:p%40ss@h.example:8/simple", "UV_FIND_LINKS": "/a,https://u:v@f.example/l"}
    text = "'https://me:p%40ss@h.example:8/x.whl' 'https://u@f.example/y' 'https://a:b@h.example:80/z'"
    clean = "'https://h.example:8/x.whl' 'https://f.example/y' 'https://a:b@h.example:80/z'"
    assert without_credentials(text, environ) == clean


def test_a_lock_with_credentials_of_an_older_version_is_forgotten(tmp_path: Path) -> None:
    locks = tmp_path / "builder" / "locks"
    locks.mkdir(parents=True)
    (locks / "open.toml").write_text('url = "https://me:s3cr3t@h.example/x.whl"\n')
    (locks / "clean.toml").write_text('url = "https://h.example/x@1.whl"\n')
    Workshop.open(tmp_path, offline(tmp_path)).close()
    assert [path.name for path in locks.iterdir()] == ["clean.toml"]
