"""From requirements to a lock: the host's settings, the target's wheels, and uv's reasons in one line."""

from __future__ import annotations

import asyncio
import hashlib
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import pytest

from image_builder.contract import Platform, Requirement
from image_builder.errors import BuildError, DiskFull, FetchFailed, ResolveFailed
from image_builder.fetch import WheelStore, index_credentials
from image_builder.file_hashes import FileHashes
from image_builder.layer_plan import LARGE, wheel_layers
from image_builder.lock import PinnedWheel, cuda_parts
from image_builder.oci.software import Libc
from image_builder.pip_settings import PipSettings, from_environment, merged, parse_config_list
from image_builder.resolve import Wishes, check_built, lock_key, resolve
from image_builder.resolver_words import failure
from tests.image_builder.wheels import make_request, make_wheel, no_sleep, offline

# What uv 0.13 really wrote; host names replaced.
NOT_FOUND = """error: No solution found when resolving dependencies
  cause: Because nosuchpkgxyz was not found in the package registry and you require nosuchpkgxyz, we can conclude \
that your requirements are unsatisfiable.
"""
NO_VERSION = """error: No solution found when resolving dependencies
  cause: Because there is no version of flask==99.9 and you require flask==99.9, we can conclude that your \
requirements are unsatisfiable.
"""
CONFLICT = """error: No solution found when resolving dependencies
  cause: Because flask==3.0.0 depends on werkzeug>=3.0.0 and you require flask==3.0.0, we can conclude that you \
require werkzeug>=3.0.0.
         And because you require werkzeug<3, we can conclude that your requirements are unsatisfiable.
"""
SOURCE_ONLY = """error: No solution found when resolving dependencies
  cause: Because all versions of docopt have no usable wheels and you require docopt, we can conclude that your \
requirements are unsatisfiable.

hint: Wheels are required for `docopt` because building from source is disabled for all packages (i.e., with \
`--no-build`)
"""
UNREACHABLE = """error: Request failed after 3 retries in 4.8s
  cause: Failed to fetch: http://index.example:9/simple/zzz/
  cause: error sending request for url (http://index.example:9/simple/zzz/)
  cause: client error (Connect)
  cause: tcp connect error
  cause: Connection refused (os error 111)
"""
UNTRUSTED = """error: Failed to fetch: https://index.example/simple/hello/
  cause: error sending request for url (https://index.example/simple/hello/)
  cause: client error (Connect)
  cause: invalid peer certificate: UnknownIssuer
"""
# How older versions lay it out.
TREE = """  × No solution found when resolving dependencies:
  ╰─▶ Because nosuchpkgxyz was not found in the package registry and you
      require nosuchpkgxyz, we can conclude that your requirements are
      unsatisfiable.
"""  # noqa: RUF001

WISHES = tuple(
    Requirement(text=text, origin=f"deployment.yaml:{line}:9: build.components.libs[{line - 3}]")
    for line, text in enumerate(("flask", "werkzeug<3", "nosuchpkgxyz", "docopt", "flask-login"), start=3)
)


@pytest.mark.parametrize(
    ("said", "code", "lines", "words"),
    [
        (NOT_FOUND, "package_not_found", [5], "nosuchpkgxyz was not found in the package registry"),
        (TREE, "package_not_found", [5], "nosuchpkgxyz was not found in the package registry"),
        (NO_VERSION, "version_not_found", [3], "there is no version of flask==99.9"),
        (CONFLICT, "resolve_conflict", [3, 4], "flask==3.0.0 depends on werkzeug>=3.0.0"),
        (SOURCE_ONLY, "source_only", [6], "all versions of docopt have no usable wheels"),
        (UNREACHABLE, "index_unreachable", [], "Connection refused"),
        (UNTRUSTED, "index_untrusted", [], "UnknownIssuer"),
    ],
)
def test_uvs_reason_is_one_line_with_the_line_of_the_yaml(said: str, code: str, lines: list[int], words: str) -> None:
    problem = failure(said, WISHES).problem
    assert problem.code == code and words in problem.cause and "\n" not in problem.cause
    assert [line for line in range(3, 8) if f"deployment.yaml:{line}:" in problem.cause] == lines
    assert problem.retryable is (code == "index_unreachable")


def test_words_that_nobody_foresaw_still_come_through() -> None:
    assert "something new" in failure("error: something new\n", WISHES).problem.cause
    full = failure("error: failed to write to the cache\n  cause: No space left on device (os error 28)", WISHES)
    assert isinstance(full, DiskFull)


def test_pips_settings_reach_uv_and_uvs_own_win() -> None:
    listed = "global.index-url='https://a.example/simple'\nglobal.extra-index-url='https://b.example/s\\nfile:///c'\n"
    listed += "install.find-links='/w /v'\n:env:.cert='/ca.pem'\nnonsense\n"
    found = merged({"UV_DEFAULT_INDEX": "https://mine.example"}, parse_config_list(listed))
    assert found == {
        "UV_DEFAULT_INDEX": "https://mine.example",
        "UV_INDEX": "https://b.example/s file:///c",
        "UV_INDEX_STRATEGY": "unsafe-best-match",
        "UV_FIND_LINKS": "/w,/v",
        "SSL_CERT_FILE": "/ca.pem",
    }
    assert merged({"REQUESTS_CA_BUNDLE": "/r.pem"}, {})["SSL_CERT_FILE"] == "/r.pem"
    assert "UV_INDEX" not in merged({"UV_EXTRA_INDEX_URL": "x"}, {"extra-index-url": "y"})


async def test_pips_configuration_file_is_read(tmp_path: Path) -> None:
    (tmp_path / "pip.conf").write_text("[global]\nfind-links = /somewhere\n")
    environ = {**offline(tmp_path), "PIP_CONFIG_FILE": str(tmp_path / "pip.conf")}
    del environ["UV_FIND_LINKS"]
    settings = PipSettings(environ)
    assert (await settings.environment())["UV_FIND_LINKS"] == "/somewhere"
    own = PipSettings({**environ, "PIP_FIND_LINKS": "/env"})
    assert (await own.environment())["UV_FIND_LINKS"] == "/env"


async def test_pip_that_is_to_read_no_file_need_not_be_asked(tmp_path: Path) -> None:
    """A second less for each start of a builder that is set up by its environment alone; pip itself agrees."""
    environ = {**offline(tmp_path), "PIP_FIND_LINKS": "/env"}
    del environ["UV_FIND_LINKS"]
    assert environ["PIP_CONFIG_FILE"] == os.devnull
    command = [sys.executable, "-m", "pip", "config", "list"]
    said = subprocess.run(command, env=environ, capture_output=True, text=True, check=True).stdout
    asked = merged(environ, {**parse_config_list(said), **from_environment(environ)})
    assert await PipSettings(environ).environment() == asked
    assert asked["UV_FIND_LINKS"] == "/env"


async def test_a_mended_configuration_of_pip_serves_without_a_restart(tmp_path: Path) -> None:
    """Also one that pip could not read when the builder was asked first."""
    file = tmp_path / "pip.conf"
    file.write_text("[global\n")
    environ = {**offline(tmp_path), "PIP_CONFIG_FILE": str(file)}
    del environ["UV_FIND_LINKS"]
    settings = PipSettings(environ)
    assert "UV_FIND_LINKS" not in await settings.environment()
    file.write_text("[global]\nfind-links = /one\n")
    assert (await settings.environment())["UV_FIND_LINKS"] == "/one"
    assert await settings.environment() is await settings.environment()


@pytest.mark.parametrize(
    ("platform", "python", "chosen"),
    [
        ("linux/amd64", "3.11", "cp311-cp311-manylinux_2_28_x86_64"),
        ("linux/arm64", "3.11", "cp311-cp311-manylinux2014_aarch64"),
        ("darwin/arm64", "3.12", "cp312-cp312-macosx_11_0_arm64"),
    ],
)
async def test_wheels_are_chosen_for_the_target_not_for_this_machine(
    tmp_path: Path, platform: Platform, python: str, chosen: str
) -> None:
    for tag in (
        "cp311-cp311-manylinux_2_28_x86_64",
        "cp311-cp311-manylinux_2_17_x86_64",
        "cp311-cp311-manylinux_2_39_x86_64",
        "cp311-cp311-manylinux2014_aarch64",
        "cp312-cp312-macosx_11_0_arm64",
        "cp311-cp311-musllinux_1_2_x86_64",
    ):
        make_wheel(tmp_path, tag=tag)
    request = make_request("hello", platform=platform, python=python)
    lock = await resolve(Wishes(request), tmp_path / "locks", offline(tmp_path), lambda _: None)
    assert [wheel.filename for wheel in lock.wheels] == [f"hello-1.0-{chosen}.whl"]


@pytest.mark.parametrize(
    ("libc", "chosen"),
    [
        (Libc("glibc", 2, 36), "manylinux_2_35_x86_64"),
        (Libc("glibc", 2, 30), "manylinux_2_28_x86_64"),
        (Libc("glibc", 2, 17), "manylinux2014_x86_64"),
        (Libc("glibc", 2, 43), "manylinux_2_35_x86_64"),  # newer than uv knows: its newest
        (Libc("musl", 1, 2), "musllinux_1_2_x86_64"),
        (Libc("musl", 1, 1), "musllinux_1_1_x86_64"),
    ],
)
async def test_wheels_are_chosen_for_the_c_library_of_the_base(tmp_path: Path, libc: Libc, chosen: str) -> None:
    """Otherwise the import fails in the container: version `GLIBC_2.38' not found."""
    for tag in (
        "manylinux_2_35",
        "manylinux_2_28",
        "manylinux2014",
        "manylinux_2_43",
        "musllinux_1_1",
        "musllinux_1_2",
    ):
        make_wheel(tmp_path, tag=f"cp311-cp311-{tag}_x86_64")
    lock = await resolve(Wishes(make_request("hello"), libc=libc), tmp_path / "locks", offline(tmp_path), print)
    assert [wheel.filename for wheel in lock.wheels] == [f"hello-1.0-cp311-cp311-{chosen}.whl"]


@pytest.mark.parametrize(
    ("libc", "tag"),
    [
        (Libc("glibc", 2, 31), "manylinux_2_39"),
        (Libc("glibc", 2, 36), "musllinux_1_2"),
        (Libc("musl", 1, 2), "manylinux_2_17"),
        (Libc("musl", 1, 1), "musllinux_1_2"),
    ],
)
async def test_a_wheel_that_does_not_fit_the_base_is_refused_with_its_line(
    tmp_path: Path, libc: Libc, tag: str
) -> None:
    make_wheel(tmp_path, tag=f"cp311-cp311-{tag}_x86_64")
    with pytest.raises(ResolveFailed) as caught:
        await resolve(Wishes(make_request("hello"), libc=libc), tmp_path / "locks", offline(tmp_path), print)
    problem = caught.value.problem
    assert problem.code == "no_matching_wheel" and str(libc) in problem.cause and "\n" not in problem.cause
    assert not list((tmp_path / "locks").glob("*.toml"))


@pytest.mark.parametrize(
    ("tag", "libc", "fits"),
    [
        ("py3-none-any", Libc("musl", 1, 2), True),
        ("cp311-cp311-linux_x86_64", Libc("glibc", 2, 36), True),
        ("cp311-cp311-linux_x86_64", Libc("glibc", 2, 41), True),
        ("cp311-cp311-linux_x86_64", Libc("glibc", 2, 31), False),
        ("cp311-cp311-linux_x86_64", Libc("musl", 1, 2), False),
    ],
)
def test_what_was_built_here_must_fit_the_base(tag: str, libc: Libc, fits: bool) -> None:
    """It is linked against this machine's C library."""
    wheel = PinnedWheel("x", "1", f"x-1-{tag}.whl", "", "0" * 64, 1)
    if fits:
        check_built(wheel, libc, Libc("glibc", 2, 36))
        return
    with pytest.raises(ResolveFailed, match=f"needs glibc 2.36, and the base image has {libc}"):
        check_built(wheel, libc, Libc("glibc", 2, 36))


async def test_cpu_never_takes_cuda_silently(tmp_path: Path) -> None:
    """A CPU service with 3 GB of CUDA in it costs minutes at each start."""
    make_wheel(tmp_path, "torch", requires=("nvidia-cublas-cu12", "triton"))
    make_wheel(tmp_path, "nvidia_cublas_cu12")
    make_wheel(tmp_path, "triton")
    environ = offline(tmp_path, UV_HTTP_RETRIES="0")
    with pytest.raises(ResolveFailed) as caught:
        await resolve(Wishes(make_request("torch")), tmp_path / "locks", environ, lambda _: None)
    assert caught.value.problem.code == "cpu_torch_unavailable" and "find-links" in caught.value.problem.fix
    lock = await resolve(Wishes(make_request("torch", accelerator="gpu")), tmp_path / "locks", environ, lambda _: None)
    assert cuda_parts(lock, []) == ["nvidia-cublas-cu12", "triton"]
    asked = await resolve(Wishes(make_request("triton")), tmp_path / "locks", environ, lambda _: None)
    assert [wheel.name for wheel in asked.wheels] == ["triton"]


def test_a_lock_depends_on_what_can_change_it_only() -> None:
    base = make_request("flask", "numpy")
    assert lock_key(Wishes(base), {}) == lock_key(Wishes(make_request("numpy", "flask", port=9)), {"HOME": "/x"})
    others = [
        lock_key(Wishes(make_request("flask", "numpy", **change)), environ)
        for change, environ in (({"python": "3.12"}, {}), ({"accelerator": "gpu"}, {}), ({}, {"UV_INDEX": "x"}))
    ]
    others += [lock_key(Wishes(base, libc=libc), {}) for libc in (Libc("musl", 1, 2), Libc("glibc", 2, 36))]
    assert len({lock_key(Wishes(base), {}), *others}) == 6


def pinned(data: bytes, url: str, size: int | None = None) -> PinnedWheel:
    return PinnedWheel("x", "1", "x-1-py3-none-any.whl", url, hashlib.sha256(data).hexdigest(), size)


def test_large_wheels_get_a_layer_each_and_small_ones_share_one() -> None:
    wheels = [pinned(bytes([n]), "u") for n in range(200)]
    sizes = {wheel.sha256: LARGE if n < 150 else 10 for n, wheel in enumerate(wheels)}
    layers = wheel_layers(wheels, sizes, "3.11")
    assert len(layers) == 96 and sum(len(layer.wheels) for layer in layers) == 200
    assert len(wheel_layers(wheels, sizes, "3.11", base=10, each=2)) == 43  # each with one of bytecode, and 14 more
    assert {layer.kind for layer in layers} == {"wheel", "wheels"}
    few = wheel_layers(wheels[148:151], sizes, "3.11")
    assert [layer.kind for layer in few] == ["wheel", "wheel", "wheels"]


def test_credentials_of_an_index_serve_its_files() -> None:
    found = index_credentials({"UV_INDEX": "mine=https://me:p%40ss@h.example/simple https://other.example/"})
    assert list(found) == ["h.example"]
    request = next(found["h.example"].auth_flow(httpx.Request("GET", "https://h.example/x.whl")))
    assert request.headers["Authorization"] == "Basic bWU6cEBzcw=="


class Index:
    """A web server that answers as it is told: a list of raw answers, the last one for ever."""

    def __init__(self) -> None:
        self.answers: list[bytes] = []
        self.asked = 0
        self.port = 0
        self.ranges: list[str] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = await reader.readuntil(b"\r\n\r\n")
        self.ranges += [
            line for line in request.decode().split("\r\n") if line.lower().startswith(("range:", "if-range:"))
        ]
        self.asked += 1
        writer.write(self.answers.pop(0) if len(self.answers) > 1 else self.answers[0])
        await writer.drain()
        writer.close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/x-1-py3-none-any.whl"


@pytest.fixture
async def index() -> AsyncIterator[Index]:
    index = Index()
    server = await asyncio.start_server(index.serve, "127.0.0.1", 0)
    index.port = server.sockets[0].getsockname()[1]
    async with server:
        yield index


@pytest.fixture
def store(tmp_path: Path) -> Iterator[WheelStore]:
    hashes = FileHashes()
    store = WheelStore(tmp_path / "wheels", hashes)
    store.prepare()
    yield store
    hashes.close()


def answer(status: str, body: bytes = b"", *headers: str, length: int | None = None) -> bytes:
    head = [f"HTTP/1.1 {status}", f"Content-Length: {len(body) if length is None else length}", "Connection: close"]
    return "\r\n".join([*head, *headers, "", ""]).encode() + body


DATA = b"wheel" * 1000
LARGE_DATA = bytes(range(250)) * 12_000
HALF = 2 << 20
"""Whole pieces of 1 MiB: what came of one that broke off is fetched again."""


@pytest.mark.parametrize(
    "trouble",
    [
        answer("503 Unavailable"),
        answer("429 Slow down", b"", "Retry-After: 7"),
        answer("200 OK", DATA[:99], length=5000),
    ],
)
async def test_a_download_is_tried_again(index: Index, store: WheelStore, trouble: bytes) -> None:
    index.answers = [trouble, trouble, answer("200 OK", DATA)]
    waits: list[float] = []

    async def sleep(seconds: float) -> None:
        waits.append(seconds)

    wheel = pinned(DATA, index.url)
    seen: list[int] = []
    await store.fetch([wheel], {}, lambda _wheel, done: seen.append(done), sleep=sleep)
    assert store.path(wheel).read_bytes() == DATA and seen[-1] == len(DATA)
    assert len(waits) == 2 and (b"Retry-After" not in trouble or waits == [7.0, 7.0])
    asked = index.asked
    await store.fetch([wheel], {}, lambda _wheel, _done: None)
    assert index.asked == asked, "what is here is not downloaded again"


@pytest.mark.parametrize(
    ("reply", "size", "code", "again"),
    [
        (answer("404 Not Found"), None, "fetch_failed", False),
        (answer("403 Forbidden"), None, "fetch_failed", False),
        (answer("200 OK", b"other"), None, "digest_mismatch", False),
        (answer("200 OK", DATA), 10, "digest_mismatch", False),
        (answer("500 Oops"), None, "fetch_failed", True),
    ],
)
async def test_a_download_that_cannot_be_used_leaves_nothing(
    index: Index, store: WheelStore, tmp_path: Path, reply: bytes, size: int | None, code: str, again: bool
) -> None:
    index.answers = [reply]
    with pytest.raises(FetchFailed) as caught:
        await store.fetch([pinned(DATA, index.url, size)], {}, lambda _wheel, _done: None, sleep=no_sleep)
    assert (caught.value.problem.code, caught.value.problem.retryable) == (code, again)
    assert not list((tmp_path / "wheels").iterdir())


async def fetched(index: Index, store: WheelStore) -> bytes:
    wheel = pinned(LARGE_DATA, index.url)
    await store.fetch([wheel], {}, lambda _wheel, _done: None, sleep=no_sleep)
    return store.path(wheel).read_bytes()


async def test_a_broken_download_goes_on_where_it_was(index: Index, store: WheelStore) -> None:
    """2 GB over a bad line come at last, instead of beginning again five times."""
    rest = f"Content-Range: bytes {HALF}-{len(LARGE_DATA) - 1}/{len(LARGE_DATA)}"
    index.answers = [
        answer("200 OK", LARGE_DATA[: HALF + 9], 'ETag: "one"', length=len(LARGE_DATA)),
        answer("503 Unavailable"),
        answer("206 Partial Content", LARGE_DATA[HALF:], rest),
    ]
    assert await fetched(index, store) == LARGE_DATA
    assert index.ranges == [f"Range: bytes={HALF}-", 'If-Range: "one"'] * 2


@pytest.mark.parametrize(
    "second",
    [
        answer("200 OK", LARGE_DATA),  # knows no ranges, or the file is another one now
        answer("416 Range Not Satisfiable"),
        answer(
            "206 Partial Content",
            LARGE_DATA[HALF:],
            f"Content-Range: bytes 1000-{len(LARGE_DATA) - 1}/{len(LARGE_DATA)}",
        ),
        answer(
            "206 Partial Content",
            LARGE_DATA[HALF + 1 :],
            f"Content-Range: bytes {HALF}-{len(LARGE_DATA) - 1}/{len(LARGE_DATA)}",
        ),
    ],
)
async def test_a_server_that_cannot_go_on_sends_the_whole(index: Index, store: WheelStore, second: bytes) -> None:
    index.answers = [
        answer("200 OK", LARGE_DATA[: HALF + 9], length=len(LARGE_DATA)),
        second,
        answer("200 OK", LARGE_DATA),
    ]
    assert await fetched(index, store) == LARGE_DATA


async def test_a_wheel_on_this_machine_is_used_where_it_is_and_verified(store: WheelStore, tmp_path: Path) -> None:
    path = tmp_path / "a b" / "x-1-py3-none-any.whl"
    path.parent.mkdir()
    path.write_bytes(DATA)
    wheel = pinned(DATA, path.as_uri())
    await store.fetch([wheel], {}, lambda _wheel, _done: None)
    assert store.path(wheel) == path
    path.write_bytes(b"other")
    with pytest.raises(FetchFailed, match="sha256"):
        await store.fetch([wheel], {}, lambda _wheel, _done: None)
    path.unlink()
    with pytest.raises(FetchFailed):
        await store.fetch([wheel], {}, lambda _wheel, _done: None)


async def test_a_wrong_ca_bundle_is_named(store: WheelStore, tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("no certificate")
    with pytest.raises(BuildError, match=r"ca\.pem"):
        await store.fetch(
            [pinned(DATA, "https://h.example/x")], {"SSL_CERT_FILE": str(tmp_path / "ca.pem")}, lambda _w, _d: None
        )
