"""The form's fields become a file that says just what was typed, whatever was typed."""

from __future__ import annotations

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from image_builder.web.draft_yaml import FIELDS, START, field_of, fields_below, yaml_of

TEXT = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0"), min_size=1, max_size=30)
ONE = TEXT.map(lambda text: "".join(text.split())).filter(bool)


def read(values: dict[str, str]) -> dict[str, dict[str, object]]:
    found: dict[str, dict[str, object]] = yaml.safe_load(yaml_of(values))
    return found


def test_the_first_form_is_a_whole_file() -> None:
    assert read({**START, "target": "local"}) == {
        "build": {"components": {"libs": ["python==3.11"]}},
        "deploy": {
            "type": "local",
            "entrypoint": ["server.py"],
            "network": {"service_container_port": 8080},
            "health": {"path": "/"},
        },
    }


def test_each_field_stands_where_it_belongs() -> None:
    """One that is written elsewhere is refused, or worse, ignored."""
    values = {
        "packages": "flask>=3\n\n  torch==2.13.0 \n",
        "apt": "ffmpeg",
        "weights": "a.onnx\nb.onnx",
        "entrypoint": "serve.py --name 'two words'",
        "env": "A=1\nB=x=y\nC=",
        "secrets": "KEY=my-key:3",
        "memory": "8Gi",
        "cpu": "0.5",
        "public": "on",
        "max_instances": "3",
        "image_uri": "ghcr.io/a/b:1",
    }
    spec = read(values)
    assert spec["build"] == {
        "image_uri": "ghcr.io/a/b:1",
        "components": {"libs": ["flask>=3", "torch==2.13.0"], "custom_packages": {"apt": ["ffmpeg"]}},
    }
    assert spec["deploy"]["entrypoint"] == ["serve.py", "--name", "two words"]
    assert spec["deploy"]["env"] == {"A": "1", "B": "x=y", "C": ""} and spec["deploy"]["secrets"] == {"KEY": "my-key:3"}
    assert spec["deploy"]["resources"] == {"cpu": 0.5, "memory": "8Gi"} and spec["deploy"]["public"] is True
    assert spec["deploy"]["scaling"] == {"max_instances": 3}
    assert spec["optional"] == {"weight_file": ["a.onnx", "b.onnx"]}


def test_a_prebuilt_image_brings_no_build() -> None:
    """`build.components` beside it would have it built over."""
    spec = read({**START, "prebuilt": "on", "image_uri": "hello:1", "packages": "flask", "target": "docker"})
    assert spec["build"] == {"image_uri": "hello:1"} and "entrypoint" not in spec["deploy"]


@given(st.dictionaries(st.sampled_from([field.name for field in FIELDS if field.kind == "text"]), ONE))
def test_texts_come_back_as_they_were_typed(values: dict[str, str]) -> None:
    """YAML reads many a word as something else, and a form must not be a way to write other keys."""
    spec = yaml.safe_load(yaml_of(values)) or {}
    for field in FIELDS:
        place = spec
        for word in field.path.split("."):
            place = (place or {}).get(word)
        assert place == values.get(field.name)


@given(
    st.lists(ONE, min_size=1, max_size=8), st.dictionaries(ONE.filter(lambda name: "=" not in name), ONE, max_size=5)
)
def test_lists_and_variables_come_back_as_they_were_typed(lines: list[str], env: dict[str, str]) -> None:
    spec = read({"packages": "\n".join(lines), "env": "\n".join(f"{name}={value}" for name, value in env.items())})
    assert spec["build"]["components"] == {"libs": lines}
    assert spec.get("deploy", {}).get("env", {}) == env


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("build.components.libs[2]", "packages"),
        ("deploy.resources.memory", "memory"),
        ("deploy.env.A", "env"),
        ("deploy.typ", None),
        ("deploy.types", None),
        ("", None),
    ],
)
def test_a_finding_is_shown_at_its_field(path: str, name: str | None) -> None:
    assert field_of(path) == name


def test_a_section_that_is_ignored_is_all_its_fields() -> None:
    assert fields_below("deploy.scaling") == ("min_instances", "max_instances", "concurrency")
    assert fields_below("deploy.region") == ("region",) and fields_below("deploy.reg") == ()
