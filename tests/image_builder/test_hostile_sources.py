"""Source packages made to harm. Their build runs with the builder's rights, as pip's does; this it cannot."""

from __future__ import annotations

import asyncio
import hashlib
import io
import os
import subprocess
import sys
import tarfile
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import psutil
import pytest

from image_builder.errors import BuildError, ResolveFailed
from image_builder.pipeline import build
from image_builder.project_lock import ProjectLock
from image_builder.resolve import Wishes, resolve
from image_builder.uv_program import uv_environ
from image_builder.work import run
from image_builder.workshop import Workshop
from tests.image_builder.test_sources import PYTHON, make_source, platform
from tests.image_builder.wheels import Notes, make_project, make_request, make_wheel, offline, plan_of, until

SECRET = "hunter2"


@pytest.fixture
def links(tmp_path: Path) -> Path:
    return tmp_path / "links"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    make_project(tmp_path / "shared")
    return tmp_path / "shared"


@pytest.fixture
async def workshop(tmp_path: Path, links: Path) -> AsyncIterator[Workshop]:
    secrets = {"DATABASE_URL": SECRET, "GOOGLE_APPLICATION_CREDENTIALS": SECRET, "AWS_SECRET_ACCESS_KEY": SECRET}
    opened = Workshop.open(tmp_path / "state", offline(links, **secrets))
    yield opened
    opened.close()


async def built(workshop: Workshop, root: Path) -> Notes:
    notes = Notes()
    request = make_request("srconly", python=PYTHON, platform=platform())
    await build(plan_of(request, root, workshop), workshop, notes)
    return notes


async def failure(workshop: Workshop, root: Path) -> BuildError:
    with pytest.raises(BuildError) as caught:
        await built(workshop, root)
    problem = caught.value.problem
    assert problem.cause.isprintable() and problem.fix and len(problem.cause) < 1000
    assert not list((workshop.folder / "scratch").iterdir())
    return caught.value


def running(word: str) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter(["cmdline", "status"]):
        if word in (process.info["cmdline"] or []) and process.info["status"] != psutil.STATUS_ZOMBIE:
            found.append(process)
    return found


DAEMON = """import subprocess
subprocess.Popen(["sleep", {seconds!r}], start_new_session=True, stdin=-3, stdout={output}, stderr={output})
"""


async def test_what_a_build_leaves_in_the_background_ends_with_it(workshop: Workshop, root: Path, links: Path) -> None:
    """As compile servers do. With its output still open uv waits for it, until the time of the build is over."""
    seconds = f"98{os.getpid()}"
    make_source(links, before=DAEMON.format(seconds=seconds, output=subprocess.DEVNULL))
    async with asyncio.timeout(60):
        await built(workshop, root)
    assert not running(seconds)


async def test_a_cancelled_build_ends_what_has_left_its_group(workshop: Workshop, root: Path, links: Path) -> None:
    seconds = f"97{os.getpid()}"
    make_source(links, before=DAEMON.format(seconds=seconds, output=None) + "import time\ntime.sleep(1000)\n")
    task = asyncio.create_task(built(workshop, root))
    await until(lambda: bool(running(seconds)), 60)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        async with asyncio.timeout(20):
            await task
    assert not running(seconds) and not list((workshop.folder / "scratch").iterdir())


async def test_the_builders_secrets_are_no_business_of_a_package(workshop: Workshop, root: Path, links: Path) -> None:
    make_source(links, before=f"assert {SECRET!r} not in os.environ.values(), sorted(os.environ)\n")
    assert (await built(workshop, root)).states["1 package"] == "built"
    kept = uv_environ({"PATH": "p", "HTTPS_PROXY": "h", "UV_INDEX": "u", "CC": "c", "LD_PRELOAD": "l", "X_TOKEN": "x"})
    assert set(kept) == {"PATH", "HTTPS_PROXY", "UV_INDEX", "CC", "UV_PYTHON_DOWNLOADS", "NO_COLOR"}


async def test_a_program_that_runs_for_ever_ends(tmp_path: Path) -> None:
    began = time.monotonic()
    code = "import os, time\nif os.fork() == 0: os.setsid()\ntime.sleep(1000)"
    with pytest.raises(TimeoutError):
        await run([sys.executable, "-c", code, "run-for-ever"], os.environ, tmp_path, seconds=1)
    assert time.monotonic() - began < 20 and not running("run-for-ever")


async def test_a_program_that_never_stops_talking_fills_no_memory(tmp_path: Path) -> None:
    code = "import sys\nfor _ in range(90): sys.stdout.write('x' * (1 << 20))\nprint('the end')"
    done = await run([sys.executable, "-c", code], os.environ, tmp_path)
    assert len(done.output) == 64 << 20 and done.output.endswith("the end\n")


def rewrite(path: Path, add: Callable[[tarfile.TarFile], None]) -> None:
    """The archive with more in it."""
    with tarfile.open(path) as old, tarfile.open(path.with_suffix(".new"), "w:gz") as new:
        for row in old:
            new.addfile(row, old.extractfile(row))
        add(new)
    path.with_suffix(".new").rename(path)


def member(name: str, kind: bytes = tarfile.REGTYPE, target: str = "", data: bytes = b"") -> tarfile.TarInfo:
    row = tarfile.TarInfo(name)
    row.type, row.linkname, row.size = kind, target, len(data)
    return row


@pytest.mark.parametrize(
    "rows",
    [
        [("srconly-2.0/../../../../../../../../{out}/evil", tarfile.REGTYPE, "")],
        pytest.param([("{out}/evil", tarfile.REGTYPE, "")], marks=pytest.mark.long),
        [("srconly-2.0/link", tarfile.SYMTYPE, "{out}"), ("srconly-2.0/link/evil", tarfile.REGTYPE, "")],
        pytest.param([("srconly-2.0/hard", tarfile.LNKTYPE, "{out}/secret")], marks=pytest.mark.long),
        [("srconly-2.0/device", tarfile.CHRTYPE, "")],
        pytest.param([("srconly-2.0/pipe", tarfile.FIFOTYPE, "")], marks=pytest.mark.long),
    ],
)
async def test_a_source_archive_writes_nothing_outside(
    workshop: Workshop, root: Path, links: Path, tmp_path: Path, rows: list[tuple[str, bytes, str]]
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "secret").write_text("s")

    def add(tar: tarfile.TarFile) -> None:
        for name, kind, target in rows:
            data = b"evil" if kind == tarfile.REGTYPE else b""
            tar.addfile(member(name.format(out=out), kind, target.format(out=out), data), io.BytesIO(data))

    rewrite(make_source(links), add)
    try:
        await built(workshop, root)
    except BuildError as error:
        assert error.problem.cause.isprintable() and error.problem.fix
    assert sorted(path.name for path in out.iterdir()) == ["secret"] and (out / "secret").stat().st_nlink == 1
    assert not list((workshop.folder / "scratch").iterdir())


async def test_what_a_build_says_cannot_write_on_the_screen(workshop: Workshop, root: Path, links: Path) -> None:
    make_source(links, before="raise SystemExit('\\x1b[2J\\x1b]0;owned\\x07 all is well')\n")
    assert (await failure(workshop, root)).problem.code in ("source_build_failed", "resolve_failed")


async def test_an_archive_of_another_package_is_refused(workshop: Workshop, root: Path, links: Path) -> None:
    make_source(links / "x", name="other").rename(links / "srconly-2.0.tar.gz")
    assert (await failure(workshop, root)).problem.cause.isprintable()


async def test_a_lock_says_not_where_packages_come_from(tmp_path: Path, links: Path) -> None:
    wheel = make_wheel(links)
    settings = ("--index-url https://evil.example", "-i https://evil.example", "--extra-index-url=https://evil.example")
    more = ("--find-links https://evil.example", "-f https://evil.example", "--trusted-host evil.example")
    pin = f"hello==1.0 \\\n  --hash=sha256:{hashlib.sha256(wheel.read_bytes()).hexdigest()}"
    logs: list[str] = []
    lock = ProjectLock("r.lock", "\n".join([*settings, pin, *more]))
    found = await resolve(Wishes(make_request(), lock), tmp_path / "locks", offline(links), logs.append)
    assert [row.name for row in found.wheels] == ["hello"] and "evil" not in str(logs)


@pytest.mark.parametrize(
    "text",
    [
        "-r /etc/passwd",
        "--requirement=/etc/passwd",
        "-c /etc/passwd",
        "-e .",
        "--editable .",
        "--config-settings x=y",
        "--global-option=--evil",
        "hello==1.0 \\\n--index-url=https://me:hunter2@evil.example",
        "hello==1.0 --hash=sha256:" + "0" * 64 + " --index-url https://me:hunter2@evil.example",
        "hello @ https://me:hunter2@evil.example/hello-1.0-py3-none-any.whl --hash=sha256:" + "0" * 64,
        "hello==1.0; python_version > '3\v--index-url=https://evil.example' --hash=sha256:" + "0" * 64,
    ],
)
def test_a_lock_gives_no_orders(text: str) -> None:
    with pytest.raises(ResolveFailed) as caught:
        _ = ProjectLock("r.lock", text).pins
    problem = caught.value.problem
    assert problem.code == "bad_lock" and problem.cause.startswith("r.lock:1: ") and SECRET not in problem.cause


@pytest.mark.parametrize("url", ["file:///etc/hello-1.0-py3-none-any.whl", "https://me:hunter2@host.example/{name}"])
async def test_a_pylock_names_no_file_of_the_builders_machine_and_no_password(
    tmp_path: Path, links: Path, url: str
) -> None:
    """Else a project could ask what lies on the machine, and its image hold another project's wheel."""
    wheel = make_wheel(links)
    address = url.format(name=wheel.name)
    text = f"""lock-version = "1.0"
created-by = "a test"
[[packages]]
name = "hello"
version = "1.0"
wheels = [{{ url = "{address}", hashes = {{ sha256 = "{"0" * 64}" }} }}]
"""
    lock = ProjectLock("pylock.toml", text)
    with pytest.raises(ResolveFailed) as caught:
        await resolve(Wishes(make_request(), lock), tmp_path / "locks", offline(links), lambda _: None)
    problem = caught.value.problem
    assert problem.code == "bad_lock" and SECRET not in str(problem)
