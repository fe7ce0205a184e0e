"""Projects made to harm: either the image holds them rightly, or they are refused with a cause and a fix."""

from __future__ import annotations

import gzip
import io
import os
import subprocess
import sys
import tarfile
import threading
import time
from pathlib import Path
from typing import Any

import pathspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from image_builder.contract import Requirement
from image_builder.errors import BadBuildRequest, BuildError, SourceChanged, one_line
from image_builder.file_hashes import FileHashes
from image_builder.ignore_file import ignore_rules
from image_builder.image_path import fault
from image_builder.layers.files import file_entries
from image_builder.layers.gzip_chain import GzipChain
from image_builder.layers.tar import Bytes, Entry, write_tar
from image_builder.plan import BuildPlan, make_plan
from image_builder.project_lock import read_project_lock
from image_builder.real_path import _step_by_step, open_real
from image_builder.work import StopFlag
from tests import needs
from tests.image_builder.wheels import make_project, make_request


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return make_project(tmp_path / "shared")


def plan(project: Path, hashes: FileHashes | None = None, **changes: Any) -> BuildPlan:
    mine = hashes or FileHashes()
    try:
        return make_plan(make_request(**changes), project.parents[3], mine)
    finally:
        if hashes is None:
            mine.close()


def refusal(project: Path, **changes: Any) -> BuildError:
    with pytest.raises((BadBuildRequest, SourceChanged)) as caught:
        plan(project, **changes)
    problem = caught.value.problem
    for words in (problem.cause, problem.fix):
        assert words and words.isprintable()
    problem.model_dump_json()
    return caught.value


def layer(entries: list[Entry]) -> tarfile.TarFile:
    sink = io.BytesIO()
    with GzipChain(lambda data: (sink.write(data), None)[1]) as chain:
        write_tar(entries, chain, StopFlag())
        chain.close()
    return tarfile.open(fileobj=io.BytesIO(gzip.decompress(sink.getvalue())))


def image_of(found: BuildPlan) -> tarfile.TarFile:
    return layer(file_entries(found.source, found.files, found.workdir))


@pytest.mark.parametrize("name", [".wh.app.py", ".wh..wh..opq", ".wh.folder/x", "deep/.wh.x"])
def test_a_file_that_would_delete_others_is_refused(project: Path, name: str) -> None:
    """Unpacked as a layer, `.wh.x` removes the x of the layers below."""
    (project / name).parent.mkdir(exist_ok=True)
    (project / name).write_text("x")
    error = refusal(project)
    assert error.problem.code == "source_bad_name" and ".wh." in error.problem.cause
    (project / ".dockerignore").write_text("**/.wh.*\n.dockerignore\n")
    assert [file.path for file in plan(project).files if file.kind == "file"] == ["app.py"]


NAMES = [
    os.fsdecode(b"latin-\xe9"),
    "new\nline",
    "carriage\rreturn",
    "\x1b[31mred",
    "back\\slash",
    " blank ",
    "-rf",
    "$(id)",
    "A",
    "a",
    "한글",
    "é",
    "e\u0301",
    "n" * 255,
    "wh.x",
    "x.wh.",
]


def test_every_name_that_the_disk_takes_is_in_the_image(project: Path) -> None:
    needs.linux("a file system that takes any name")
    for name in NAMES:
        (project / name).write_text(name, "utf-8", "surrogateescape")
    tar = image_of(plan(project))
    assert {f"workspace/{name}" for name in NAMES} <= set(tar.getnames())
    for name in NAMES:
        file = tar.extractfile(f"workspace/{name}")
        assert file is not None and file.read() == os.fsencode(name)


SIGNS = st.characters(codec="utf-8", exclude_characters="\0/", exclude_categories=("Cs",))
PARTS = st.one_of(st.text(SIGNS, min_size=1, max_size=300), st.sampled_from([*NAMES, ".wh.x", ".", ".."]))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(PARTS, min_size=1, max_size=12).map("/".join), max_size=6, unique=True))
def test_any_path_comes_out_of_the_layer_as_it_went_in(paths: list[str]) -> None:
    good = [path for path in paths if fault(path) is None]
    kept = [path for path in good if not any(path.startswith(f"{other}/") for other in good)]
    kept = [path for path in kept if not any(other.startswith(f"{path}/") for other in kept)]
    tar = layer([Entry(path, content=Bytes(os.fsencode(path))) for path in kept])
    assert sorted(row.name for row in tar if row.isreg()) == sorted(kept)


def test_umoci_unpacks_every_name(project: Path, tmp_path: Path) -> None:
    """What docker and containerd do is judged in the tests of whole images; this one knows every name."""
    needs.linux("a file system that takes any name")
    tool = needs.program("umoci")
    for name in NAMES:
        (project / name).write_text("x")
    tar = tmp_path / "layer.tar"
    sink = io.BytesIO()
    found = plan(project)
    with GzipChain(lambda data: (sink.write(data), None)[1]) as chain:
        write_tar(file_entries(found.source, found.files, found.workdir), chain, StopFlag())
        chain.close()
    tar.write_bytes(gzip.decompress(sink.getvalue()))
    for argv in (
        [tool, "init", "--layout", "i"],
        [tool, "new", "--image", "i:t"],
        [tool, "raw", "add-layer", "--image", "i:t", str(tar)],
        [tool, "unpack", "--rootless", "--image", "i:t", "bundle"],
    ):
        subprocess.run(argv, cwd=tmp_path, check=True, capture_output=True)
    assert set(NAMES) <= set(os.listdir(tmp_path / "bundle/rootfs/workspace"))  # noqa: PTH208 - any bytes


def test_a_path_that_is_too_long_for_an_image_is_named(project: Path) -> None:
    needs.linux("a path of more than 1024 bytes")
    here = os.open(project, os.O_RDONLY)
    for _ in range(16):
        os.mkdir("d" * 200, dir_fd=here)
        deeper = os.open("d" * 200, os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = deeper
    os.close(here)
    try:
        error = refusal(project)
        assert error.problem.code in ("source_bad_name", "source_unreadable") and "too long" in error.problem.cause
    finally:
        subprocess.run(["rm", "-rf", str(project / ("d" * 200))], check=True)


def test_words_about_a_strange_name_fit_one_line_and_any_terminal(project: Path) -> None:
    """A cause that cannot be sent as JSON is an answer 500; one with escape codes rewrites the operator's screen."""
    needs.linux("a file name that is not UTF-8")
    os.mkfifo(project / os.fsdecode(b"\xff\x1b[2J\n"))
    assert r"\xff\x1b[2J\n is a device" in refusal(project).problem.cause
    assert one_line("한글 ok") == "한글 ok"
    (project / os.fsdecode(b"\xff\x1b[2J\n")).unlink()
    for changes in ({"source": "common/7/a\nb"}, {"entrypoint": ("a\nb.py",)}, {"weights": ("\x1b\udcff",)}):
        refusal(project, **changes)


def test_hard_links_loops_and_cases(project: Path) -> None:
    os.link(project / "app.py", project / "same.py")
    (project / "loop").symlink_to("pool")
    (project / "pool").symlink_to("loop")
    (project / "self").symlink_to("self")
    tar = image_of(plan(project))
    assert tar.getmember("workspace/same.py").isreg() and tar.getmember("workspace/self").linkname == "self"


def test_links_that_lead_out_by_detours(project: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("s")
    (project / "sub").mkdir()
    for name, target in {
        "one": "../../../../../secret",
        "sub/two": "../up",
        "three": str(tmp_path / "gone"),
        "four": "sub/../../../..",
        "five": "/proc/self/root",
    }.items():
        (project / "up").unlink(missing_ok=True)
        if name == "sub/two":
            (project / "up").symlink_to("..")
        (project / name).symlink_to(target)
        assert refusal(project).problem.code == "link_outside"
        (project / name).unlink()


def test_a_link_around_the_project_is_made_to_hold_in_the_image(project: Path) -> None:
    """`../nn_model/app.py` leads back here, yet in the image the folder has another name."""
    (project / "sub").mkdir()
    (project / "sub/a").symlink_to("../../nn_model/app.py")
    (project / "b").symlink_to("sub/../app.py")
    targets = {file.path: file.target for file in plan(project).files if file.kind == "link"}
    assert targets == {"sub/a": "../app.py", "b": "sub/../app.py"}


@pytest.mark.timeout(20)
@pytest.mark.parametrize("kind", ["pipe", "folder", "device", "sparse", "outside", "rules"])
def test_an_ignore_file_that_is_none(project: Path, tmp_path: Path, kind: str) -> None:
    """A pipe was waited for without end; /dev/zero filled the memory."""
    file = project / ".dockerignore"
    if kind == "pipe":
        os.mkfifo(file)
    elif kind == "folder":
        file.mkdir()
    elif kind == "device":
        file.symlink_to("/dev/zero")
    elif kind == "outside":
        (tmp_path / "passwd").write_text("x")
        file.symlink_to(tmp_path / "passwd")
    elif kind == "rules":
        file.write_text("".join(f"r{n}\n" for n in range(2000)))
    else:
        with file.open("wb") as sparse:
            sparse.truncate(5 << 30)
    assert ".dockerignore" in refusal(project).problem.cause


@pytest.mark.timeout(20)
def test_a_lock_that_is_a_pipe_is_not_waited_for(project: Path) -> None:
    os.mkfifo(project.parent / "r.lock")
    with pytest.raises(BadBuildRequest) as caught:
        read_project_lock(project, "../r.lock", project.parents[3])
    assert caught.value.problem.code == "bad_lock"
    (project / ".dockerignore").write_text("r.lock\n")
    os.mkfifo(project / "r.lock")
    assert refusal(project, lock="r.lock").problem.code == "bad_lock"


@pytest.mark.timeout(20)
@pytest.mark.parametrize(
    ("rule", "path"),
    [
        ("*a" * 60 + "b", "a" * 255),
        ("**/a/" * 40 + "b", "a/" * 1400 + "c"),
        ("**/*a*a*a*a*b/" * 8 + "z", ("a" * 200 + "/") * 14 + "a"),
        ("[a-z]*" * 50 + "9", "a" * 255),
        ("*?" * 60 + "b", "a" * 255),
    ],
)
def test_a_rule_with_many_stars_is_judged_at_once(rule: str, path: str) -> None:
    """The first took longer than the sun will shine."""
    assert ignore_rules([rule])(path) is False


GLOBS = st.lists(
    st.one_of(st.just("**"), st.text("ab", max_size=2), st.lists(st.sampled_from("**?ab"), max_size=6).map("".join)),
    min_size=1,
    max_size=5,
).map("/".join)


@settings(deadline=None)
@given(GLOBS, st.lists(st.text("ab", min_size=1, max_size=5), min_size=1, max_size=6).map("/".join))
def test_rules_mean_what_they_meant(rule: str, path: str) -> None:
    cleaned = os.path.normpath(rule).lstrip("/")
    slow = pathspec.PathSpec.from_lines("gitignore", [f"/{cleaned}"])
    assert ignore_rules([rule])(path) == (cleaned not in ("", ".") and slow.match_file(path))


def test_a_folder_exchanged_for_a_link_is_noticed(project: Path, tmp_path: Path) -> None:
    """Whoever writes to the project while it is read would get any file of this machine into an image."""
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/passwd").write_text("secret")
    (project / "sub").mkdir()
    (project / "sub/passwd").write_text("secret")
    found = plan(project)
    (project / "sub").rename(project / "was")
    (project / "sub").symlink_to(tmp_path / "etc")
    with pytest.raises(SourceChanged, match="sub/passwd"):
        image_of(found)
    for opening in (open_real, lambda path: _step_by_step(path, 0)):
        with pytest.raises(OSError, match=r"symbolic|directory"):
            opening(project / "sub/passwd")
        os.close(opening(project / "was/passwd"))


def test_a_file_that_grows_while_it_is_read_ends(project: Path) -> None:
    done = threading.Event()

    def grow() -> None:
        with (project / "app.py").open("ab", buffering=0) as file:
            while not done.is_set():
                file.write(bytes(1 << 16))
                if file.tell() > 64 << 20:
                    file.truncate(1 << 16)

    writer = threading.Thread(target=grow)
    writer.start()
    try:
        for _ in range(3):
            assert plan(project)
    finally:
        done.set()
        writer.join()
    found = plan(project)
    with (project / "app.py").open("ab") as file:
        file.write(b"more")
    with pytest.raises(SourceChanged, match=r"app\.py"):
        image_of(found)


def test_files_that_the_builder_may_not_read(project: Path) -> None:
    needs.root_on_linux("becoming another user")
    (project / "locked").mkdir()
    (project / "locked/x").write_text("x")
    (project / "secret.py").write_text("x")
    (project / "locked").chmod(0)
    (project / "secret.py").chmod(0)
    program = (
        "import os, sys\nfrom pathlib import Path\nfrom image_builder.source_tree import read_tree\n"
        "from image_builder.file_hashes import FileHashes\nfrom image_builder.errors import BuildError\n"
        "os.setuid(65534)\n"
        "try: print(*[file.path for file in read_tree(Path(sys.argv[1]), FileHashes())])\n"
        "except BuildError as error: print(error.problem.code, error.problem.cause)\n"
    )
    for part in (project, *project.parents):
        part.chmod(part.stat().st_mode | 0o755) if part.stat().st_uid == os.getuid() and part != Path("/") else None

    def said() -> str:
        return subprocess.run(
            [sys.executable, "-c", program, project], capture_output=True, text=True, check=True
        ).stdout

    assert "source_unreadable cannot read" in said()
    (project / ".dockerignore").write_text("locked\nsecret.py\n")
    assert said().split() == [".dockerignore", "app.py"]


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("flask; python_version > '3\n--index-url=https://evil.example/simple\n'", "bad_requirement"),
        ("flask\r-r /etc/passwd", "bad_requirement"),
        ("-r requirements.txt", "bad_requirement"),
        ("-e .", "bad_requirement"),
        ("./evil", "bad_requirement"),
        ("flask --index-url https://evil.example", "bad_requirement"),
        ("fla\u2028sk", "bad_requirement"),
        ("x @ https://me:hunter2@host.example/x-1-py3-none-any.whl", "credentials_in_requirement"),
        ("x @ https://hunter2@host.example/x-1-py3-none-any.whl", "credentials_in_requirement"),
        ("git+https://me:hunter2@host.example/x.git", "credentials_in_requirement"),
        ("x @ file:///etc/x-1-py3-none-any.whl", "source_package_unsupported"),
        ("x @ ssh://git@host.example/x", "credentials_in_requirement"),
    ],
)
def test_requirements_carry_no_orders_and_no_passwords(project: Path, text: str, code: str) -> None:
    """What is in a request is shown to all who may see the build, and kept."""
    problem = refusal(project, requirements=(Requirement(text=text, origin="d.yaml:3:9"),)).problem
    assert problem.code == code and "hunter2" not in str(problem) and problem.cause.startswith("d.yaml:3:9: ")


@pytest.mark.parametrize(
    "changes",
    [
        {"workdir": "/work\0space"},
        {"workdir": "/a\nb"},
        {"workdir": "/.wh.usr"},
        {"workdir": "/" + "d" * 256},
        {"workdir": "/d" * 400},
        {"base_image": "debian:12; rm -rf /"},
        {"base_image": "debian\n:12"},
        {"base_image": "../../etc"},
        {"push": "h.example/a b"},
        {"push": "h.example/../x"},
        {"push": "h.example/x:t\n"},
        {"weights": ("a\0b",)},
        {"weights": ("/etc/passwd",)},
        {"weights": ("sub/../../x",)},
        {"system_packages": ("vim\n--allow-unauthenticated",), "base_image": "x"},
        {"system_packages": ("-oAPT::Get::x=1",), "base_image": "x"},
        {"system_packages": ("./local.deb",), "base_image": "x"},
        {"entrypoint": ("a\0b",)},
    ],
)
def test_settings_that_could_mean_something_else(project: Path, changes: dict[str, Any]) -> None:
    refusal(project, **changes)


def test_commands_of_a_shell_stay_words(project: Path) -> None:
    """An entrypoint is an argv: nothing reads it as a program of a shell."""
    odd = ("sh", "-c", "echo $HOME; `id` && x\n", "..", "")
    assert plan(project, entrypoint=odd, workdir="/my work/$(id)").entrypoint == odd


MEASURE = """
import resource, sys
from pathlib import Path
from image_builder.file_hashes import FileHashes
from image_builder.layers.files import file_entries
from image_builder.layers.gzip_chain import GzipChain
from image_builder.layers.tar import write_tar
from image_builder.plan import make_plan
from image_builder.work import StopFlag
from tests.image_builder.wheels import make_request
hashes = FileHashes()
root, weights = Path(sys.argv[1]), sys.argv[2:]
plan = make_plan(make_request(weights=tuple(weights)), root, hashes)
for files in (plan.files, plan.weights):
    with GzipChain(lambda data: None) as chain:
        write_tar(file_entries(plan.source, files, plan.workdir), chain, StopFlag())
        chain.close()
try:  # getrusage would tell of the process that forked, if that was larger
    rows = open("/proc/self/status").read().split("VmHWM:")
    print(int(rows[1].split()[0]) >> 10)
except OSError:
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 20)
"""


def peak(root: Path, *weights: str) -> int:
    """MB that planning and writing both layers takes at most."""
    argv = [sys.executable, "-c", MEASURE, str(root), *weights]
    return int(subprocess.run(argv, capture_output=True, text=True, check=True).stdout)


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("size", [200 << 20, pytest.param(5 << 30, marks=pytest.mark.long)])
def test_a_large_sparse_file_does_not_fill_the_memory(project: Path, size: int) -> None:
    for name in ("weights.bin", "program.bin"):
        with (project / name).open("wb") as file:
            file.truncate(size // 2)
    assert peak(project.parents[3], "weights.bin") < 200


def many(project: Path, count: int) -> None:
    for folder in range(count // 1000):
        (project / f"pkg{folder:03}").mkdir()
        for number in range(1000):
            (project / f"pkg{folder:03}/some_file_{number:03}.txt").write_text(f"{folder} {number}\n")


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("count", [2_000, pytest.param(200_000, marks=pytest.mark.long)])
def test_very_many_small_files_stay_cheap(project: Path, count: int) -> None:
    """The second plan reads no file; memory grows by a few hundred bytes for each."""
    many(project, count)
    hashes = FileHashes()
    first = plan(project, hashes)
    deadline = time.monotonic() + 600
    reads = Reads()
    while not reads.asked or reads.count:  # until the files are old enough to be remembered
        assert time.monotonic() < deadline
        reads = Reads()
        assert plan(project, reads.over(hashes)).key == first.key
    hashes.close()
    assert peak(project.parents[3]) < 200 + count // 1000


class Reads:
    """Counts the files that are read although nothing changed."""

    def __init__(self) -> None:
        self.count = 0
        self.asked = False

    def over(self, hashes: FileHashes) -> FileHashes:
        outer = self
        self.asked = True

        class Counting(FileHashes):
            def __init__(self) -> None:
                self.__dict__.update(hashes.__dict__)

            def sha256(self, path: Path, flag: StopFlag | None = None) -> str:
                outer.count += 1
                return super().sha256(path, flag)

        return Counting()
