"""The equivalent Dockerfile: whoever leaves this builder, or wants to look under it, must get the same program."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
import tarfile
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from image_builder.build_context import context_of, context_tar
from image_builder.contents import Package
from image_builder.contract import BuildRequest, BuildState, BuildStatus
from image_builder.dockerfile import Recipe, dockerfile, requirements
from image_builder.errors import NoDockerfile
from image_builder.pipeline import build
from image_builder.workshop import Workshop
from tests import needs
from tests.image_builder.service import serving
from tests.image_builder.wheels import SCRIPT, Notes, make_project, make_request, make_wheel, offline, plan_of

DIGEST = f"sha256:{'d' * 64}"
WORDS = st.lists(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1), min_size=1)
NASTY = ['a"b', "x\nRUN id", "$HOME", "back\\", "`id`", "<<EOF", "'", "é한\u2028", "# syntax=x", "]"]


def recipe(request: BuildRequest | None = None, base: str | None = None, **run: Any) -> Recipe:
    ways = {"Entrypoint": ["python", "app.py"], "WorkingDir": "/workspace", **run}
    return Recipe(DIGEST, request or make_request(), base, ways, (), ("program",))


def instructions(text: str) -> list[tuple[str, str]]:
    """As docker's parser reads them: lines, continued by a backslash, without comments."""
    lines = [line for line in re.sub(r"\\\n", "", text).split("\n") if line and not line.startswith("#")]
    return [(line.partition(" ")[0], line.partition(" ")[2]) for line in lines]


KNOWN = ["ARG", "FROM", "RUN", "COPY", "ENV", "WORKDIR", "EXPOSE", "ENTRYPOINT"]


@given(WORDS | st.just(NASTY))
def test_no_word_breaks_out_of_its_line(words: list[str]) -> None:
    """A deployment.yaml of a stranger must not run commands where its Dockerfile is built."""
    rows = instructions(dockerfile(recipe(Entrypoint=words)))
    assert [name for name, _ in rows] == ["ARG", "FROM", "RUN", "COPY", "WORKDIR", "ENTRYPOINT"]
    assert json.loads(rows[-1][1]) == words


@given(st.dictionaries(st.text(min_size=1), st.text(st.characters(exclude_categories=["Cs"]))), st.text())
def test_variables_and_folders_are_themselves_or_refused(env: Mapping[str, str], workdir: str) -> None:
    asked = recipe(Env=[f"{name}={value}" for name, value in env.items()], WorkingDir=f"/{workdir}")
    try:
        rows = instructions(dockerfile(asked))
    except NoDockerfile:
        return
    assert {name for name, _ in rows} <= set(KNOWN)
    assert dict(rows)["WORKDIR"] == f"/{workdir}"
    found = [re.fullmatch(r'([^=]+)="((?:[^"\\$]|\\["\\$])*)"', text) for name, text in rows if name == "ENV"]
    assert {match[1]: re.sub(r"\\(.)", r"\1", match[2]) for match in found if match} == dict(env)


@pytest.mark.parametrize("path", ["/a b", "/a\nRUN id", "/$HOME", "/a'b"])
def test_a_folder_that_cannot_be_written_is_named(path: str) -> None:
    with pytest.raises(NoDockerfile, match="the folder"):
        dockerfile(recipe(WorkingDir=path))


@pytest.mark.parametrize("package", ["vim; id", "a\nb", "$(id)", "-y", "../x", "vim=1 2"])
def test_a_system_package_is_a_name_of_debian(package: str) -> None:
    with pytest.raises(NoDockerfile, match="system package"):
        dockerfile(recipe(make_request(system_packages=(package,))))


def test_the_base_is_the_pinned_one_and_system_packages_are_installed_on_it() -> None:
    asked = make_request(system_packages=("vim", "hello=2.10-3"), base_image="debian:12")
    rows = instructions(dockerfile(recipe(asked, base=f"hub.test/debian@{DIGEST}")))
    assert rows[:2] == [("ARG", f"BASE=hub.test/debian@{DIGEST}"), ("FROM", "${BASE}")]
    assert rows[2][1].startswith("apt-get update ") and " vim hello=2.10-3 " in rows[2][1]


def test_a_package_asked_for_by_its_address_keeps_it() -> None:
    """No index has it."""
    packages = [Package(name="Dep", version="1", wheel="dep-1-py3-none-any.whl", sha256="0" * 64)]
    asked = make_request("dep @ https://files.test/dep-1-py3-none-any.whl#sha256=00")
    text = requirements(packages, asked)
    assert text == f"Dep @ https://files.test/dep-1-py3-none-any.whl --hash=sha256:{'0' * 64}\n"
    assert requirements(packages, make_request("dep")) == f"Dep==1 --hash=sha256:{'0' * 64}\n"


PROGRAM = {
    "app.py": """import hello, pathlib, sys
print(sys.argv[1:], pathlib.Path("ready").read_text(), len(pathlib.Path("w.pt").read_bytes()))
hello.main()
""",
    "prepare.py": "import pathlib\npathlib.Path('ready').write_text('prepared')\n",
    ".dockerignore": "secret.txt\n",
    "secret.txt": "not for the image\n",
    "w.pt": b"w" * 1000,
}
ARGUMENT = 'it\'s "odd" $HOME \\ \n`id`'


@pytest.fixture
async def workshop(tmp_path: Path) -> AsyncIterator[Workshop]:
    make_wheel(tmp_path / "links", entry_points=SCRIPT, requires=("dep>=1",))
    make_wheel(tmp_path / "links", "dep", files={"dep.py": "x = 1\n"})
    folder = make_project(tmp_path / "shared", PROGRAM)
    (folder / "link.py").symlink_to("app.py")
    opened = Workshop.open(tmp_path / "state", offline(tmp_path / "links"))
    yield opened
    opened.close()


async def built(workshop: Workshop, tmp_path: Path, **changes: Any) -> BuildStatus:
    asked = make_request(
        "hello", weights=("w.pt",), pre_exec=(("prepare.py",),), entrypoint=("app.py", ARGUMENT), **changes
    )
    plan = plan_of(asked, tmp_path / "shared", workshop)
    image = await build(plan, workshop, Notes())
    return BuildStatus(id=plan.id, state=BuildState.SUCCEEDED, request=asked, image=image, created=1.0)


async def test_the_build_context_is_whole_and_always_the_same(workshop: Workshop, tmp_path: Path) -> None:
    status = await built(workshop, tmp_path)
    (tmp_path / "shared/common/7/42/nn_model/app.py").write_text("changed since\n")
    data, again = (b"".join(context_tar(context_of(status, workshop.layout, workshop.contents))) for _ in range(2))
    assert data == again
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        names = tar.getnames()
        app = tar.extractfile("program/app.py")
        assert app is not None and app.read().decode() == PROGRAM["app.py"]
        assert tar.getmember("program/link.py").linkname == "app.py"
        listed = tar.extractfile("requirements.txt")
        assert listed is not None
        lines = listed.read().decode().splitlines()
    assert {"Dockerfile", "weights/w.pt", "launch/launch.py", "launch/launch.json"} <= set(names)
    assert "program/secret.txt" not in names and "program/w.pt" not in names
    assert all(re.fullmatch(r"(hello|dep)==1\.0 --hash=sha256:[0-9a-f]{64}", line) for line in lines)
    assert len(lines) == 2


async def test_a_build_without_an_image_says_so(workshop: Workshop, tmp_path: Path) -> None:
    status = (await built(workshop, tmp_path)).model_copy(update={"image": None, "state": BuildState.RUNNING})
    with pytest.raises(NoDockerfile, match="no image yet, it is running"):
        context_of(status, workshop.layout, workshop.contents)


async def test_an_image_for_a_mac_has_no_dockerfile(workshop: Workshop, tmp_path: Path) -> None:
    status = await built(workshop, tmp_path, platform="darwin/arm64")
    with pytest.raises(NoDockerfile, match="darwin/arm64"):
        context_of(status, workshop.layout, workshop.contents)


def test_the_api_answers_both_forms(tmp_path: Path) -> None:
    make_project(tmp_path / "shared", {"main.py": "print('hi')\n"})
    with serving(tmp_path / "state", tmp_path / "shared") as service:
        build_id = service.ask(base_image="scratch")["id"]
        service.events(build_id)
        text = service.http.get(f"/builds/{build_id}/dockerfile").raise_for_status()
        assert text.headers["content-type"] == "text/plain; charset=utf-8"
        assert text.text.endswith('ENTRYPOINT ["python", "main.py"]\n') and "python:3.11-slim" in text.text
        whole = service.http.get(f"/builds/{build_id}/dockerfile", params={"format": "tar"}).raise_for_status()
        with tarfile.open(fileobj=io.BytesIO(whole.content)) as tar:
            file = tar.extractfile("Dockerfile")
            assert file is not None and file.read().decode() == text.text
        missing = service.http.get(f"/builds/{'0' * 32}/dockerfile")
        assert (missing.status_code, missing.json()["error"]["code"]) == (404, "build_not_found")


class Buildah:
    """A store of its own below a folder."""

    def __init__(self, folder: Path) -> None:
        needs.root_on_linux("buildah --isolation chroot")
        self._program = needs.program("buildah")
        self._store = ["--root", str(folder / "root"), "--runroot", str(folder / "run"), "--storage-driver", "vfs"]

    def __call__(self, *words: str | Path) -> str:
        done = subprocess.run(
            [self._program, *self._store, *words],
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "TMPDIR": "/var/tmp"},
        )
        assert done.returncode == 0, f"{words}: {done.stdout}\n{done.stderr}"
        return done.stdout


@pytest.mark.slow
async def test_an_engine_builds_it_and_it_runs_alike(workshop: Workshop, tmp_path: Path, base_image: str) -> None:
    """The proof: an engine that knows nothing of us builds what we say, and the result does what ours does."""
    if sys.version_info[:2] != (3, 11):
        needs.missing("the base of the tests has python 3.11")
    status = await built(workshop, tmp_path, base_image=base_image)
    context = tmp_path / "context"
    with tarfile.open(
        fileobj=io.BytesIO(b"".join(context_tar(context_of(status, workshop.layout, workshop.contents))))
    ) as tar:
        tar.extractall(context, filter="data")
    (tmp_path / "pip.conf").write_text("[global]\nno-index = true\nfind-links = /links\n")
    buildah = Buildah(tmp_path / "store")
    mounts = [f"--volume={tmp_path / 'links'}:/links:ro", f"--volume={tmp_path / 'pip.conf'}:/etc/pip.conf:ro"]
    assert f"ARG BASE={base_image.rpartition(':')[0]}@sha256:" in (context / "Dockerfile").read_text()
    buildah("bud", "--isolation=chroot", "--network=host", "--tls-verify=false", *mounts, "--tag=it", context)
    config = json.loads(buildah("inspect", "--type=image", "it"))["OCIv1"]["config"]
    assert config["Entrypoint"] == ["python", "/opt/cloud-deploy/launch.py"]
    assert (config["WorkingDir"], list(config["ExposedPorts"])) == ("/workspace", ["8080/tcp"])
    container = buildah("from", "it").strip()
    said = buildah("run", "--isolation=chroot", container, "--", *config["Entrypoint"])
    assert said == f"{[ARGUMENT]!r} prepared 1000\nhello from a wheel\n"
    listed = buildah("run", "--isolation=chroot", container, "--", "python", "-m", "pip", "list", "--format=json")
    found = {row["name"]: row["version"] for row in json.loads(listed)}
    assert {"hello": "1.0", "dep": "1.0"}.items() <= found.items()
