"""What the file names must exist beside it: told before anything is built, with the line and the likely name."""

from __future__ import annotations

from pathlib import Path

import pytest

from cloud_manager import deployment_yaml, project_files
from cloud_manager.deployment_spec import LoadedSpec

TEXT = """\
build: {components: {engine: pytorch}}
deploy:
  type: local
  entrypoint: [python3, -u, serve.py, --fast]
  pre_exec: [[convert.py, a], [sh, tools/prepare.sh], [echo, hello.py]]
optional:
  nn_file: model.py
  weight_file: [a.pt, b.pt]
  annotation_file: coco.yaml
"""
NAMED = ("serve.py", "convert.py", "tools/prepare.sh", "model.py", "a.pt", "b.pt", "coco.yaml")


def load(text: str = TEXT) -> LoadedSpec:
    return deployment_yaml.loads(text.encode())


@pytest.fixture
def project(tmp_path: Path) -> Path:
    for name in NAMED:
        file = tmp_path / "project/nn_model" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("")
    return tmp_path / "project"


def said(loaded: LoadedSpec, project: Path) -> list[str]:
    return [str(finding).removeprefix("deployment.yaml:") for finding in project_files.check(loaded, project)]


def test_the_program_is_in_nn_model_or_beside_the_file(project: Path) -> None:
    assert project_files.program_folder(project) == project / "nn_model"
    assert project_files.program_folder(project / "nn_model") == project / "nn_model"


def test_a_complete_project_has_no_findings(project: Path) -> None:
    assert said(load(), project) == []


def test_optional_files_may_lie_beside_deployment_yaml(project: Path) -> None:
    for name in ("model.py", "a.pt", "coco.yaml"):
        (project / "nn_model" / name).rename(project / name)
    assert said(load(), project) == []


def test_each_missing_file_is_told_with_its_line(project: Path) -> None:
    for name in NAMED:
        (project / "nn_model" / name).unlink()
    (project / "nn_model/server.py").write_text("")
    (project / "nn_model/deep/er").mkdir(parents=True)
    (project / "nn_model/deep/er/a.pt").write_text("")
    assert said(load(), project) == [
        "4:29: deploy.entrypoint[2]: there is no 'serve.py' in nn_model; did you mean 'server.py'?",
        "5:15: deploy.pre_exec[0][0]: there is no 'convert.py' in nn_model",
        "5:36: deploy.pre_exec[1][1]: there is no 'tools/prepare.sh' in nn_model",
        "7:12: optional.nn_file: there is no 'model.py' in nn_model or beside deployment.yaml",
        "8:17: optional.weight_file[0]: there is no 'a.pt' in nn_model or beside deployment.yaml; "
        "did you mean 'deep/er/a.pt'?",
        "8:23: optional.weight_file[1]: there is no 'b.pt' in nn_model or beside deployment.yaml",
        "9:20: optional.annotation_file: there is no 'coco.yaml' in nn_model or beside deployment.yaml",
    ]


@pytest.mark.parametrize("name", ["../secret.pt", "/etc/passwd", "a/../../x"])
def test_a_path_out_of_the_project_is_refused(project: Path, name: str) -> None:
    loaded = load(f"deploy: {{type: local, entrypoint: nop}}\noptional: {{nn_file: {name}}}\n")
    assert said(loaded, project) == [f"2:21: optional.nn_file: {name!r} must be a path inside the project"]


def test_a_link_out_of_the_project_is_refused(project: Path) -> None:
    (project.parent / "secret.pt").write_text("")
    (project / "nn_model/a.pt").unlink()
    (project / "nn_model/a.pt").symlink_to(project.parent / "secret.pt")
    assert said(load(), project) == ["8:17: optional.weight_file[0]: 'a.pt' is a link to a place outside the project"]


def test_a_folder_or_a_circle_of_links_is_no_file(project: Path) -> None:
    for name in ("a.pt", "b.pt"):
        (project / "nn_model" / name).unlink()
    (project / "nn_model/a.pt").mkdir()
    (project / "nn_model/b.pt").symlink_to("b.pt")
    first, second = said(load(), project)
    assert first.endswith("'a.pt' is not a file")
    assert "'b.pt' cannot be read: " in second


def test_a_prebuilt_image_brings_its_own_program(project: Path) -> None:
    loaded = load("build: {image_uri: hello}\ndeploy: {type: docker, entrypoint: not_there.py}\n")
    assert said(loaded, project) == []


@pytest.mark.parametrize(
    ("words", "index"),
    [
        (("main.py", "-x"), 0),
        (("run.sh",), 0),
        (("python", "main.py"), 1),
        (("python3.11", "-u", "main.py"), 2),
        (("/bin/bash", "run.sh"), 1),
        (("/bin/bash", "-c"), None),
        (("python", "-m", "http.server"), None),
        (("python", "-c", "x.py"), None),
        (("/app/main.py",), None),
        (("gunicorn", "app.py"), None),
        (("python", "main"), None),
        ((), None),
    ],
)
def test_which_word_of_a_command_is_the_script(words: tuple[str, ...], index: int | None) -> None:
    assert project_files.script_of(words) == index
