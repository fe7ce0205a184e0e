"""`cloud-deploy init`: the file that a newcomer begins with must be right, or it is worse than none."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloud_manager import deployment_yaml
from cloud_manager.deployment_spec import DeploymentSpec
from cloud_manager.draft import draft
from cloud_manager.project_files import check
from cloud_manager.survey import Source, Survey, survey
from tests.cloud_manager.test_cli import cloud_deploy

FLASK = (
    "from flask import Flask\nimport cv2, json, helper\napp = Flask(__name__)\n@app.get('/')\ndef hi(): return 'hi'\n"
)
FASTAPI = "import fastapi\nservice: fastapi.FastAPI = fastapi.FastAPI()\nservice.add_middleware(print)\n"
OWN = "import http.server\nif __name__ == '__main__':\n    http.server.test()\n"


def drafted(folder: Path, **files: str) -> DeploymentSpec:
    """The specification that is written for these files (name with `__` for a dot), all of which it names."""
    for name, text in files.items():
        path = folder / name.replace("__", ".").replace("_in_", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    loaded = deployment_yaml.loads(draft(survey(folder), "local").text.encode())
    assert check(loaded, folder) == ()
    return loaded.spec


def libs(spec: DeploymentSpec) -> tuple[str, ...]:
    assert spec.build.components is not None
    return spec.build.components.libs


def test_a_program_with_a_main_is_run_as_it_is(tmp_path: Path) -> None:
    spec = drafted(tmp_path, nn_model_in_server__py=OWN, nn_model_in_model__py="import torch\n", helper__py="")
    assert (spec.deploy.entrypoint, libs(spec)) == (("server.py",), ("torch",))


@pytest.mark.parametrize(
    ("program", "argv", "packages"),
    [
        (
            FLASK,
            ("python", "-m", "gunicorn", "--bind=0.0.0.0:8080", "web:app"),
            ("flask", "opencv-python-headless", "gunicorn"),
        ),
        (FASTAPI, ("python", "-m", "uvicorn", "--host=0.0.0.0", "--port=8080", "web:service"), ("fastapi", "uvicorn")),
        (
            "import streamlit\n",
            ("python", "-m", "streamlit", "run", "web.py", "--server.address=0.0.0.0", "--server.port=8080"),
            ("streamlit",),
        ),
    ],
    ids=["flask", "fastapi", "streamlit"],
)
def test_an_application_without_a_main_gets_its_server(
    tmp_path: Path, program: str, argv: tuple[str, ...], packages: tuple[str, ...]
) -> None:
    """Run as a plain program it would define functions and end."""
    spec = drafted(tmp_path, web__py=program, helper__py="", notes__py="x = 1\n")
    assert (spec.deploy.entrypoint, libs(spec)) == (argv, packages)


def test_what_a_project_says_of_its_packages_wins_over_its_imports(tmp_path: Path) -> None:
    text = "-r base.txt\n--index-url x\nflask>=3 # web\nnumpy \\\n  <3\n./local\n"
    assert libs(drafted(tmp_path, main__py="import torch\nprint()\n", requirements__txt=text)) == (
        "flask>=3",
        "numpy <3",
    )
    project = '[project]\nname="x"\nrequires-python=">=3.10,<4"\ndependencies=["torch>2", "a b"]\n'
    other = tmp_path / "other"
    assert libs(drafted(other, main__py="import os\n", pyproject__toml=project)) == ("python==3.10", "torch>2")


def test_a_lock_is_kept(tmp_path: Path) -> None:
    """Its hashes are what somebody has judged; other versions would be another program."""
    spec = drafted(tmp_path, main__py=OWN, requirements__txt="flask==3 --hash=sha256:ab\n")
    assert (spec.build.lock, libs(spec)) == ("requirements.txt", ())


def test_weights_are_named_wherever_they_lie(tmp_path: Path) -> None:
    spec = drafted(tmp_path, main__py=OWN, deep_in_a__onnx="1", b__PT="2", venv_in_c__pt="3")
    assert spec.optional.weights() == ("b.PT", "deep/a.onnx")


def test_an_empty_folder_gets_a_file_to_fill_in(tmp_path: Path) -> None:
    assert draft(survey(tmp_path), "docker").text.count("no python file was found") == 1


def test_broken_files_are_left_out_of_the_look(tmp_path: Path) -> None:
    """A file for python 2 beside the program must not be what the newcomer's first command fails on."""
    (tmp_path / "deep.py").write_text("x = " + "(" * 5000)
    (tmp_path / "null.py").write_bytes(b"\0\xff")
    spec = drafted(tmp_path, old__py="print 'hi'\n", serve__py=OWN, pyproject__toml="[[[")
    assert spec.deploy.entrypoint == ("serve.py",)


NAMES = st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1, max_size=20).filter(
    lambda name: name.strip() and ".." not in name.split("/") and not name.startswith("/")
)


@given(NAMES, NAMES)
def test_whatever_files_are_called_the_file_says_so(program: str, weights: str) -> None:
    """YAML reads many a name as something else: `no`, `1e3.py`, `- x`, `a: b`."""
    seen = Survey(sources=(Source(program, runs=True),), weights=(weights,))
    spec = deployment_yaml.loads(draft(seen, "local").text.encode()).spec
    assert (spec.deploy.entrypoint, spec.optional.weights()) == ((program,), (weights,))


def test_nobody_loses_the_file_that_is_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "main.py").write_text(OWN)
    assert cloud_deploy("init", tmp_path) == 0
    assert cloud_deploy("validate", "--files", tmp_path) == 0
    written = (tmp_path / "deployment.yaml").read_text()
    (tmp_path / "deployment.yaml").write_text("# mine")
    assert cloud_deploy("init", tmp_path) == 1
    assert "--force" in capsys.readouterr().err and (tmp_path / "deployment.yaml").read_text() == "# mine"
    assert cloud_deploy("init", tmp_path, "--print") == 0
    assert capsys.readouterr().out == written
    assert cloud_deploy("init", tmp_path, "--force", "--json", "--target", "docker") == 0
    said = json.loads(capsys.readouterr().out)
    assert said["written"] and said["found"] == ["the program is main.py"]
    assert (tmp_path / "deployment.yaml").read_text() == said["text"] == written.replace("local", "docker")


def test_a_wrong_place_or_word_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cloud_deploy("init", tmp_path / "nowhere") == 1
    assert "nowhere" in capsys.readouterr().err
    assert cloud_deploy("init", tmp_path, "--target", "a: b") == 1
    assert "deploy.type" in capsys.readouterr().err and not (tmp_path / "deployment.yaml").exists()
