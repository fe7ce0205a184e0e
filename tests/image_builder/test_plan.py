"""From a request and files to a plan: what goes in, what is refused, and when two plans are the same."""

from __future__ import annotations

import os
import socket
import subprocess
from pathlib import Path
from typing import Any

import pytest

from image_builder.contract import BuildRequest, Requirement
from image_builder.errors import BadBuildRequest, SourceChanged
from image_builder.file_hashes import FileHashes
from image_builder.plan import BuildPlan, make_plan, resolve_argv
from tests import needs


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "shared" / "common" / "7" / "42" / "nn_model"
    folder.mkdir(parents=True)
    (folder / "app.py").write_text("print('hello')\n")
    return folder


def request(**changes: Any) -> BuildRequest:
    wanted: dict[str, Any] = {
        "owner": "7/42",
        "source": "common/7/42/nn_model",
        "base_image": "scratch",
        "entrypoint": ("app.py",),
    }
    return BuildRequest(**{**wanted, **changes})


def plan(project: Path, **changes: Any) -> BuildPlan:
    hashes = FileHashes()
    try:
        return make_plan(request(**changes), project.parents[3], hashes)
    finally:
        hashes.close()


def refusal(project: Path, **changes: Any) -> BadBuildRequest:
    with pytest.raises(BadBuildRequest) as caught:
        plan(project, **changes)
    for words in (caught.value.problem.cause, caught.value.problem.fix):
        assert words and "\n" not in words
    return caught.value


def paths(found: BuildPlan) -> list[str]:
    return [entry.path for entry in found.files]


def test_same_inputs_share_one_build_whoever_asks(project: Path) -> None:
    mine = plan(project, requirements=(Requirement(text="flask", origin="deployment.yaml:3:9"),))
    other = plan(project, owner="8/1", requirements=(Requirement(text="flask", origin="x.yaml:1:1"),))
    assert mine.key == other.key
    assert mine.id == mine.key[:32]


def test_the_order_in_which_packages_are_named_does_not_matter(project: Path) -> None:
    """Otherwise two lines that change places are another image, with another digest, and a deployment for nothing."""
    rows = (Requirement(text="flask"), Requirement(text="numpy"))
    one = plan(project, requirements=rows, system_packages=("vim", "hello"), base_image="debian:12")
    other = plan(project, requirements=rows[::-1], system_packages=("hello", "vim"), base_image="debian:12")
    assert one.key == other.key


@pytest.mark.parametrize("changes", [{"port": 9}, {"python": "3.12"}, {"requirements": (Requirement(text="flask"),)}])
def test_a_changed_request_is_another_build(project: Path, changes: dict[str, Any]) -> None:
    assert plan(project).key != plan(project, **changes).key


def test_content_mode_and_names_make_the_key_but_times_do_not(project: Path) -> None:
    first = plan(project).key
    os.utime(project / "app.py", (1, 1))
    assert plan(project).key == first
    (project / "app.py").chmod(0o755)
    executable = plan(project).key
    (project / "app.py").write_text("print('hullo')\n")
    changed = plan(project).key
    (project / "empty").mkdir()
    assert len({first, executable, changed, plan(project).key}) == 4


def test_what_a_program_does_not_need_stays_out(project: Path) -> None:
    for name in ("deployment.yaml", ".git/HEAD", "pkg/__pycache__/m.pyc", "pkg/m.py", "pkg/deployment.yaml"):
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        (project / name).write_text("x")
    assert paths(plan(project)) == ["app.py", "pkg/deployment.yaml", "pkg/m.py"]


def test_dockerignore_is_obeyed_as_docker_does(project: Path) -> None:
    names = ["a.log", "deep/a.log", "data/x.bin", "data/keep.bin", "deep/t.tmp", "#odd", "build/o.o"]
    for name in names:
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        (project / name).write_text("x")
    rules = "# comment\n*.log\ndata\n!data/keep.bin\n**/*.tmp\n/build/\n.dockerignore\n"
    (project / ".dockerignore").write_text(rules)
    assert paths(plan(project)) == ["#odd", "app.py", "data/keep.bin", "deep/a.log"]


def test_weights_are_apart_and_stay_in_although_ignored(project: Path) -> None:
    (project / "weights").mkdir()
    (project / "weights" / "best.pt").write_bytes(b"w")
    (project / ".dockerignore").write_text("weights\n.dockerignore\n")
    found = plan(project, weights=("./weights/best.pt",))
    assert [entry.path for entry in found.weights] == ["weights/best.pt"]
    assert paths(found) == ["app.py"]


def test_links_inside_are_kept_and_links_outside_are_named(project: Path) -> None:
    (project / "sub").mkdir()
    (project / "sub" / "near").symlink_to("../app.py")
    (project / "sub" / "absolute").symlink_to(project / "app.py")
    targets = {entry.path: entry.target for entry in plan(project).files if entry.kind == "link"}
    assert targets == {"sub/near": "../app.py", "sub/absolute": "../app.py"}
    (project / "sub" / "far").symlink_to("/etc/passwd")
    error = refusal(project)
    assert error.problem.code == "link_outside" and "sub/far" in error.problem.cause


def test_devices_and_sockets_are_refused_by_name(project: Path, tmp_path: Path) -> None:
    os.mkfifo(project / "pipe")
    assert "pipe" in refusal(project).problem.cause
    (project / "pipe").unlink()
    here = Path.cwd()
    os.chdir(project)  # the name of a socket may have at most about 100 characters
    try:
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind("sock")
    finally:
        os.chdir(here)
    assert refusal(project).problem.code == "source_not_a_file"


@pytest.mark.parametrize("source", ["../x", "/etc", "common/7/42/nn_model/../../../../..", "a\0b", ".", "common/out"])
def test_nothing_outside_the_shared_root_can_be_named(project: Path, source: str, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (project.parents[3] / "common" / "out").symlink_to(tmp_path / "elsewhere")
    assert refusal(project, source=source).problem.code == "source_outside"


def test_a_missing_folder_is_named(project: Path) -> None:
    assert refusal(project, source="common/7/43/nn_model").problem.code == "source_missing"


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"system_packages": ("vim",)}, "system_packages_unsupported"),
        ({"push": "registry.example/x@sha256:" + "a" * 64}, "bad_image_reference"),
        ({"push": "http://registry.example/x"}, "bad_image_reference"),
        ({"system_packages": ("vim; rm -rf /",), "base_image": "x"}, "bad_system_package"),
        ({"engine": "docker"}, "engine_unsupported"),
        ({"engine": "cloud-build", "base_image": "x"}, "dockerfile_missing"),
        ({"engine": "docker", "base_image": "x"}, "dockerfile_missing"),
        ({"base_image": "Debian:12"}, "bad_image_reference"),
        ({"workdir": "/opt/venv/x"}, "bad_workdir"),
        ({"workdir": "/../.."}, "bad_workdir"),
        ({"entrypoint": ()}, "bad_command"),
        ({"pre_exec": ((),)}, "bad_command"),
        ({"weights": ("../w",)}, "bad_weights"),
        ({"weights": ("w.pt",)}, "weights_missing"),
        ({"entrypoint": ("nope.py",)}, "entrypoint_missing"),
        ({"requirements": (Requirement(text="flask\n--index-url=x"),)}, "bad_requirement"),
        ({"requirements": (Requirement(text="--option"),)}, "bad_requirement"),
        ({"requirements": (Requirement(text="x; rm -rf"),)}, "bad_requirement"),
        ({"requirements": (Requirement(text="x @ file:///etc/passwd"),)}, "source_package_unsupported"),
        ({"requirements": (Requirement(text="x @ git+https://h/x"),)}, "source_package_unsupported"),
    ],
)
def test_what_cannot_be_built_is_refused_with_a_fix(project: Path, changes: dict[str, Any], code: str) -> None:
    assert refusal(project, **changes).problem.code == code


def test_a_bad_requirement_names_its_line(project: Path) -> None:
    wrong = (Requirement(text="fla sk", origin="deployment.yaml:9:13: build.components.libs[0]"),)
    assert refusal(project, requirements=wrong).problem.cause.startswith("deployment.yaml:9:13: ")


def test_an_unreadable_project_folder_is_an_error_for_people(project: Path) -> None:
    (project / ".dockerignore").write_bytes(b"\xff\xfe")
    assert ".dockerignore" in refusal(project).problem.cause


def test_names_in_any_encoding_are_kept(project: Path) -> None:
    needs.linux("a file name that is not UTF-8")
    (project / os.fsdecode(b"\xff\xe9.txt")).touch()
    assert len(paths(plan(project))) == 2


def test_very_deep_folders_are_no_trouble(project: Path) -> None:
    needs.linux("a path of more than 1024 bytes")
    here = os.open(project, os.O_RDONLY)
    for _ in range(1200):
        os.mkdir("d", dir_fd=here)
        deeper = os.open("d", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = deeper
    os.close(here)
    try:
        assert len(paths(plan(project))) == 2
    finally:  # pytest's own cleaning up cannot go so deep
        subprocess.run(["rm", "-rf", str(project / "d")], check=True)


def test_python_and_shell_scripts_run_with_their_interpreter() -> None:
    assert resolve_argv(("a.py", "x")) == ("python", "a.py", "x")
    assert resolve_argv(("a.sh",)) == ("sh", "a.sh")
    assert resolve_argv(("gunicorn", "a.py")) == ("gunicorn", "a.py")


def test_a_vanished_file_is_tried_again(project: Path) -> None:
    class Vanishing(FileHashes):
        def sha256(self, path: Path, flag: object = None) -> str:
            path.unlink()
            return super().sha256(path)

    hashes = Vanishing()
    with pytest.raises(SourceChanged) as caught:
        make_plan(request(), project.parents[3], hashes)
    hashes.close()
    assert caught.value.problem.retryable


def test_hashes_are_remembered_only_for_files_at_rest(project: Path, tmp_path: Path) -> None:
    hashes = FileHashes(tmp_path / "hashes.db")
    file = project / "app.py"
    first = hashes.sha256(file)
    file.write_text("print('jello')\n")
    assert hashes.sha256(file) != first
    hashes.close()
