"""Locks that a project brings, and packages that come as source only."""

from __future__ import annotations

import asyncio
import hashlib
import io
import sys
import tarfile
from collections.abc import AsyncIterator
from pathlib import Path

import psutil
import pytest

from image_builder.contract import Platform, Requirement
from image_builder.errors import BadBuildRequest, BuildError, ResolveFailed
from image_builder.interpreters import here
from image_builder.lock import Lock
from image_builder.pipeline import build
from image_builder.project_lock import ProjectLock, read_project_lock
from image_builder.resolve import Wishes, resolve
from image_builder.source_tree import SourceFile
from image_builder.workshop import Workshop
from tests import needs
from tests.image_builder.wheels import Notes, make_project, make_request, make_wheel, offline, plan_of, until

PYTHON = f"{sys.version_info[0]}.{sys.version_info[1]}"
BACKEND = """import os, zipfile
{before}
def build_wheel(folder, config_settings=None, metadata_directory=None):
    info = "{name}-{version}.dist-info"
    rows = {{
        "{name}.py": "BUILT = " + repr(os.environ.get("SOURCE_DATE_EPOCH")),
        info + "/METADATA": "Metadata-Version: 2.1\\nName: {name}\\nVersion: {version}\\n",
        info + "/WHEEL": "Wheel-Version: 1.0\\nGenerator: t\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n",
    }}
    rows[info + "/RECORD"] = "".join(row + ",,\\n" for row in [*rows, info + "/RECORD"])
    with zipfile.ZipFile(os.path.join(folder, "{name}-{version}-py3-none-any.whl"), "w") as archive:
        for path, text in rows.items():
            archive.writestr(zipfile.ZipInfo(path, (1980, 1, 1, 0, 0, 0)), text)
    return "{name}-{version}-py3-none-any.whl"
"""


def make_source(folder: Path, name: str = "srconly", version: str = "2.0", before: str = "", project: str = "") -> Path:
    """A source archive that is its own build backend: nothing else is needed to build it. project: more of it."""
    project = f'[project]\nname = "{name}"\nversion = "{version}"\n{project}'
    system = '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
    files = {
        "pyproject.toml": system + project,
        "backend.py": BACKEND.format(name=name, version=version, before=before),
        "PKG-INFO": f"Metadata-Version: 2.{0 if 'dynamic' in project else 2}\nName: {name}\nVersion: {version}\n",
    }
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}-{version}.tar.gz"
    with tarfile.open(path, "w:gz") as tar:
        for where, text in files.items():
            row = tarfile.TarInfo(f"{name}-{version}/{where}")
            row.size = len(text)
            tar.addfile(row, io.BytesIO(text.encode()))
    return path


def sha(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture
def links(tmp_path: Path) -> Path:
    return tmp_path / "links"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    make_project(tmp_path / "shared")
    return tmp_path / "shared"


@pytest.fixture
async def workshop(tmp_path: Path, links: Path) -> AsyncIterator[Workshop]:
    opened = Workshop.open(tmp_path / "state", offline(links))
    yield opened
    opened.close()


class Desk:
    """`resolve` over a folder of packages, and what it logged."""

    def __init__(self, links: Path, locks: Path) -> None:
        self.links, self.locks = links, locks
        self.logs: list[str] = []

    async def resolve(
        self, *requirements: str, lock: ProjectLock | None = None, buildable: bool = False, python: str = "3.11"
    ) -> Lock:
        wishes = Wishes(make_request(*requirements, python=python), lock, buildable)
        return await resolve(wishes, self.locks, offline(self.links), self.logs.append)


@pytest.fixture
def desk(links: Path, tmp_path: Path) -> Desk:
    return Desk(links, tmp_path / "locks")


def names(lock: Lock) -> list[str]:
    return [f"{file.name} {file.version}" for file in (*lock.wheels, *lock.sources)]


def requirements_lock(*rows: tuple[str, Path], more: str = "") -> ProjectLock:
    text = "".join(f"{pin} \\\n    --hash=sha256:{sha(path)}\n    # via a test\n" for pin, path in rows)
    return ProjectLock("requirements.lock", text + more)


async def test_a_projects_lock_decides_what_is_installed(desk: Desk, links: Path) -> None:
    """A team that has tested with 1.0 must not get 2.0 because it came out last night."""
    old = make_wheel(links, version="1.0", requires=("dep",))
    make_wheel(links, version="2.0")
    dep = make_wheel(links, "dep")
    lock = requirements_lock(("hello==1.0", old), ("dep==1.0 ; python_version >= '3.8'", dep))
    found = await desk.resolve("hello>=1", lock=lock)
    assert names(found) == ["dep 1.0", "hello 1.0"] and not [line for line in desk.logs if "warning" in line]
    again = await desk.resolve("hello>=1", lock=lock)
    assert again == found and "the lock made before is used" in desk.logs[-1]


async def test_only_a_file_whose_hash_is_in_the_lock_is_taken(desk: Desk, links: Path) -> None:
    make_wheel(links, tag="cp311-cp311-manylinux_2_17_x86_64")
    plain = make_wheel(links, tag="py3-none-any")
    found = await desk.resolve(lock=requirements_lock(("hello==1.0", plain)))
    assert [wheel.filename for wheel in found.wheels] == [plain.name]
    plain.unlink()
    make_wheel(links, tag="py3-none-any", files={"hello.py": "tampered = 1\n"})
    desk.locks = desk.locks / "other"
    with pytest.raises(ResolveFailed) as caught:
        await desk.resolve(lock=ProjectLock("r.lock", "hello==1.0 --hash=sha256:" + "0" * 64))
    assert caught.value.problem.code == "hash_mismatch" and "hello 1.0" in caught.value.problem.cause


async def test_a_lock_that_lacks_something_is_used_and_said(desk: Desk, links: Path) -> None:
    wheel = make_wheel(links, requires=("dep",))
    make_wheel(links, "dep")
    found = await desk.resolve(lock=requirements_lock(("hello==1.0", wheel)))
    assert names(found) == ["hello 1.0"]
    assert "warning: requirements.lock lacks what its packages need: dep" in desk.logs


async def test_entries_for_other_platforms_are_left_out(desk: Desk, links: Path) -> None:
    wheel, other = make_wheel(links), make_wheel(links, "other")
    lock = requirements_lock(("hello==1.0", wheel), ("other==1.0 ; sys_platform == 'win32'", other))
    assert names(await desk.resolve(lock=lock)) == ["hello 1.0"]


async def test_a_pylock_is_a_lock_too(desk: Desk, links: Path) -> None:
    wheel = make_wheel(links)
    text = f"""lock-version = "1.0"
created-by = "a test"
[[packages]]
name = "hello"
version = "1.0"
wheels = [{{ url = "{wheel.as_uri()}", hashes = {{ sha256 = "{sha(wheel)}" }} }}]
"""
    assert names(await desk.resolve("hello", lock=ProjectLock("pylock.toml", text))) == ["hello 1.0"]
    with pytest.raises(ResolveFailed) as caught:
        await desk.resolve(lock=ProjectLock("pylock.toml", "lock-version = 1"))
    assert caught.value.problem.code == "bad_lock"


@pytest.mark.parametrize(
    ("wish", "said"), [("hello>=2", "has hello==1.0"), ("dep", "does not name it"), ("Hello==1.0", "")]
)
async def test_what_is_asked_for_besides_a_lock_must_be_in_it(desk: Desk, links: Path, wish: str, said: str) -> None:
    lock = requirements_lock(("hello==1.0", make_wheel(links)))
    if not said:
        assert names(await desk.resolve(wish, lock=lock)) == ["hello 1.0"]
        return
    with pytest.raises(ResolveFailed) as caught:
        await desk.resolve(wish, lock=lock)
    assert caught.value.problem.code == "lock_mismatch"
    assert caught.value.problem.cause.startswith("deployment.yaml:9:13: ") and said in caught.value.problem.cause


HASH = "--hash=sha256:" + "a" * 64


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (f"# made by hand\n\nflask>=3 {HASH}\n", "r.lock:3: flask is not pinned with =="),
        (f"flask==3.* {HASH}", "r.lock:1: flask is not pinned"),
        (f"flask==3,>2 {HASH}", "r.lock:1: flask is not pinned"),
        (f"ok==1 {HASH}\nflask==3.0 \\\n    # via x\n", "r.lock:2: flask has no sha256 hash"),
        ("flask==3.0 --hash=md5:" + "a" * 32, "r.lock:1: flask has no sha256"),
        (f"flask @ https://h.example/flask-3-py3-none-any.whl {HASH}", "r.lock:1: flask is not pinned"),
        ("-r other.txt", "r.lock:1: the option -r"),
        ("-e .", "r.lock:1: the option -e"),
        ("!!", "r.lock:1: '!!' is not a python requirement"),
    ],
)
def test_a_lock_that_pins_too_little_is_refused_with_its_line(text: str, words: str) -> None:
    with pytest.raises(ResolveFailed) as caught:
        _ = ProjectLock("r.lock", text).pins
    problem = caught.value.problem
    assert problem.code == "bad_lock" and problem.cause.startswith(words)
    assert "uv pip compile --generate-hashes" in problem.fix


async def test_indexes_in_a_lock_are_left_to_the_host(desk: Desk, links: Path) -> None:
    """Else a project could send the builder anywhere; and their credentials are nobody's to read."""
    settings = "--index-url https://me:secret@nowhere.example/simple\n"
    lock = requirements_lock(("hello==1.0", make_wheel(links)), more=settings)
    assert names(await desk.resolve(lock=lock)) == ["hello 1.0"]
    assert any("--index-url left out" in line for line in desk.logs) and "secret" not in str(desk.logs)


def test_a_lock_lies_in_the_project(tmp_path: Path) -> None:
    project = make_project(tmp_path / "shared")
    (project / "in.lock").write_text("")
    (project.parent / "beside.lock").write_text("")
    (tmp_path / "secret").write_text("x")
    (project / "link.lock").symlink_to(tmp_path / "secret")
    (project / "binary.lock").write_bytes(b"\xff\xff")
    root = tmp_path / "shared"
    assert read_project_lock(project, "in.lock", root).name == "in.lock"
    assert read_project_lock(project, "../beside.lock", root).name == "beside.lock"
    for name in (
        "none.lock",
        "link.lock",
        "../../x/y",
        "/etc/passwd",
        "../../../../etc/passwd",
        "a\0b",
        "binary.lock",
        "",
    ):
        with pytest.raises(BadBuildRequest) as caught:
            read_project_lock(project, name, root)
        assert caught.value.problem.code == "bad_lock"


async def test_another_lock_is_another_image(workshop: Workshop, root: Path) -> None:
    """Also where `.dockerignore` keeps the file out of the image, or it lies beside deployment.yaml."""
    request = make_request(lock="../r.lock")
    keys = []
    for text in ("", f"hello==1.0 {HASH}", f"hello==2.0 {HASH}"):
        (root / "common/7/42/r.lock").write_text(text)
        keys.append(plan_of(request, root, workshop).key)
    assert len({*keys, plan_of(make_request(), root, workshop).key}) == 4


async def test_the_newest_version_wins_also_as_source(desk: Desk, links: Path) -> None:
    """As with pip: what a Dockerfile would have installed."""
    make_wheel(links, "srconly", "1.0")
    make_source(links)
    lock = await desk.resolve("srconly", buildable=True)
    assert names(lock) == ["srconly 2.0"] and lock.sources[0].filename == "srconly-2.0.tar.gz"


async def test_an_old_version_is_never_taken_in_silence(desk: Desk, links: Path) -> None:
    make_wheel(links, "srconly", "1.0")
    make_source(links)
    assert names(await desk.resolve("srconly")) == ["srconly 1.0"]
    said = [line for line in desk.logs if line.startswith("warning: ")]
    assert len(said) == 1 and "srconly 2.0: source only" in said[0] and said[0].endswith("instead: srconly 1.0")


async def test_what_can_only_be_built_elsewhere_is_named(desk: Desk, links: Path) -> None:
    make_source(links)
    with pytest.raises(ResolveFailed) as caught:
        await desk.resolve("srconly", python="3.9")
    problem = caught.value.problem
    assert problem.code == "source_only" and "srconly 2.0" in problem.cause and "python 3.9" in problem.cause
    with pytest.raises(ResolveFailed) as caught:
        await desk.resolve(lock=requirements_lock(("srconly==2.0", links / "srconly-2.0.tar.gz")))
    assert caught.value.problem.code == "source_only"


def platform() -> Platform:
    return here() or needs.missing("this machine is none that images are made for")


async def test_a_source_is_built_once_and_installed(workshop: Workshop, root: Path, links: Path) -> None:
    make_source(links)
    request = make_request("srconly", python=PYTHON, platform=platform())
    notes = Notes()
    await build(plan_of(request, root, workshop), workshop, notes)
    assert "building srconly 2.0 from source" in notes.logs and notes.states["1 package"] == "built"
    wheels = list((workshop.folder / "wheels").glob("*.whl"))
    assert len(wheels) == 1 and b"315532800" in wheels[0].read_bytes(), "a time that is always the same"
    assert not list((workshop.folder / "scratch").iterdir())
    again = Notes()
    await build(plan_of(request, root, workshop), workshop, again)
    assert "building srconly 2.0 from source" not in again.logs and again.states["1 package"] == "reused"


async def test_a_build_that_fails_says_why(workshop: Workshop, root: Path, links: Path) -> None:
    make_source(links, before="raise SystemExit('error: no compiler for Fortran 66')")
    request = make_request("srconly", python=PYTHON, platform=platform())
    notes = Notes()
    with pytest.raises(BuildError) as caught:
        await build(plan_of(request, root, workshop), workshop, notes)
    problem = caught.value.problem
    assert problem.code == "source_build_failed" and "srconly 2.0" in problem.cause and "\n" not in problem.cause
    assert "Fortran 66" in problem.cause and any("Fortran 66" in line for line in notes.logs)


async def test_cancelling_ends_the_build_of_a_source(
    workshop: Workshop, root: Path, links: Path, tmp_path: Path
) -> None:
    """What a package starts must not run on for nobody."""
    mark = tmp_path / "started"
    make_source(links, before=f"import subprocess\nopen({str(mark)!r}, 'w')\nsubprocess.run(['sleep', '1234'])\n")
    request = make_request("srconly", python=PYTHON, platform=platform())
    before = set(psutil.Process().children(recursive=True))
    task = asyncio.create_task(build(plan_of(request, root, workshop), workshop, Notes()))
    await until(mark.exists)
    started = set(psutil.Process().children(recursive=True)) - before
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await until(lambda: not any(process.is_running() and process.status() != "zombie" for process in started))
    assert not list((workshop.folder / "scratch").iterdir())


async def test_a_projects_lock_is_built_from(workshop: Workshop, root: Path, links: Path) -> None:
    wheel, source = make_wheel(links), make_source(links)
    make_wheel(links, version="3.0")
    (root / "common/7/42/r.lock").write_text(requirements_lock(("hello==1.0", wheel), ("srconly==2.0", source)).text)
    request = make_request("hello", lock="../r.lock", python=PYTHON, platform=platform())
    plan = plan_of(request, root, workshop)
    assert all(isinstance(entry, SourceFile) and entry.path != "r.lock" for entry in plan.files)
    notes = Notes()
    await build(plan, workshop, notes)
    assert notes.states["2 packages"] == "built"
    assert (
        Requirement(text="hello", origin="deployment.yaml:9:13: build.components.libs[0]") in plan.request.requirements
    )
