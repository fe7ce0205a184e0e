"""YAML: whatever bytes lie there, the answer is a specification or a clear error with a line, and soon."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from cloud_manager import deployment_yaml
from cloud_manager.errors import InvalidSpec
from cloud_manager.yaml_source import MAX_NODES, Position, Scalar, parse

SPECIMENS = sorted((Path(__file__).parent / "specimens").glob("*.yaml"))


def refusals(text: str | bytes) -> list[str]:
    data = text.encode() if isinstance(text, str) else text
    with pytest.raises(InvalidSpec) as caught:
        deployment_yaml.loads(data)
    assert "\n" not in caught.value.problem.cause
    assert caught.value.findings
    return [str(finding) for finding in caught.value.findings]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "deployment.yaml:1:1: the file is empty"),
        ("# nothing but words\n", "the file is empty"),
        ("---\n", "the file is empty"),
        ("- a\n- b\n", "1:1: expected `build:` and `deploy:` sections, got a list"),
        ("hello", "got a single value"),
        ("a: 1\n---\nb: 2\n", "2:1: a second document begins here"),
        ("a: [1, 2\nb: 3\n", "2:2: the list is not closed: `,` or `]` is missing (begun in line 1)"),
        ("a: {b: 1\n", "the mapping is not closed"),
        ("a: b: c\n", "1:5: a `:` is not expected here"),
        ("a: @b\n", "1:4: a value cannot begin with `@`; put it in quotes"),
        ("a:\n\t- b\n", "2:1: a tab; YAML indents with spaces"),
        ("a: 'x\n", "a quote is missing"),
        ('a: "\\q"\n', "an unknown escape"),
        ("a:\n  b: 1\n c: 2\n", "check the indentation"),
        ("a: *nowhere\n", "1:4: a: the alias *nowhere is not defined above"),
        ("a: &x [*x]\n", "the alias *x refers to itself"),
        ("a: &x {b: {c: *x}}\n", "the alias *x refers to itself"),
        ("? [1, 2]\n: 3\n", "a key must be a word"),
        ("a: \0\n", "1:4: a NUL character is not allowed"),
        ("a: \x07\n", "the control character U+0007 is not allowed"),
        ("%YAML 3.0\n---\na: 1\n", "the %YAML line"),
        ("a: !h!x 1\n", "tags such as"),
        ("<<: 3\n", "`<<` takes a mapping"),
    ],
)
def test_what_is_not_a_deployment_is_refused_in_plain_words_with_its_place(text: str, said: str) -> None:
    assert any(said in line for line in refusals(text)), refusals(text)


@pytest.mark.parametrize(
    "tag", ["!!python/object:os.system {}", "!!python/name:os.system ''", "!mine 3", "!!binary aGk=", "!!set {a}"]
)
def test_a_tag_never_makes_an_object(tag: str) -> None:
    [said] = refusals(f"build:\n  os: {tag}\ndeploy: {{type: local, entrypoint: main.py}}\n")
    assert said.startswith("deployment.yaml:2:7: build.os: the tag '!")
    assert tag.split(maxsplit=1)[0].removeprefix("!!") in said


def test_plain_tags_mean_what_they_say() -> None:
    root = parse("a: !!str 010\nb: ! on\n", "f").root
    assert root is not None
    assert [root.get("a"), root.get("b")] == [Scalar("010", "010", Position(1, 4)), Scalar("on", "on", Position(2, 4))]


def test_a_duplicate_key_names_both_lines() -> None:
    text = "deploy:\n  type: local\n  entrypoint: a.py\n  type: docker\n"
    expected = "deployment.yaml:4:3: deploy.type: duplicate key: written in line 2 and again in line 4"
    assert refusals(text) == [expected]


def test_a_bomb_of_aliases_is_refused_at_once() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12)]
    started = time.process_time()
    [said] = refusals("\n".join(lines))
    assert "more than 20,000 values" in said
    assert time.process_time() - started < 1


@pytest.mark.parametrize("opening", ["[", "{a: ", "- ", "? ", "[{a: "])
def test_depth_is_bounded_and_does_not_end_the_process(opening: str) -> None:
    """`yaml.compose` with libyaml dies of a stack overflow here, and the manager with it."""
    assert "nested deeper than 32 levels" in refusals(opening * 100_000)[-1]


def test_depth_hidden_behind_aliases_counts() -> None:
    lines = ["a0: &a0 [x]", *(f"a{n}: &a{n} [*a{n - 1}]" for n in range(1, 40))]
    assert "nested deeper" in refusals("\n".join(lines))[0]


def test_a_long_flat_file_ends_at_the_limit() -> None:
    assert "more than 20,000 values" in refusals("a:\n" + "- 1\n" * (MAX_NODES + 1))[0]


def test_ten_megabytes_are_refused_without_being_parsed() -> None:
    assert "the limit" in refusals(b"a: " + b"x" * 10_000_000)[0]


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"build:\n  os: caf\xe9\n", "2:10: not UTF-8: the byte 0xe9 at offset 16 (line 2)"),
        ("a: 1\n".encode("utf-16"), "1:1: not UTF-8: the byte 0xff at offset 0 (line 1)"),
        (b"\xef\xbb\xbfa: \xff", "offset 6 (line 1)"),
    ],
)
def test_other_encodings_are_refused_with_the_byte(data: bytes, said: str) -> None:
    assert said in refusals(data)[0]


def test_a_byte_order_mark_is_accepted() -> None:
    data = b"\xef\xbb\xbfdeploy: {type: local, entrypoint: main.py}\n"
    assert deployment_yaml.loads(data).spec.deploy.type == "local"


def test_positions_count_characters_and_not_bytes() -> None:
    loaded = deployment_yaml.loads(
        "deploy: {service_name: 'a', env: {A: é, B: ü}, type: local, entrypoint: m.py}".encode()
    )
    assert loaded.origins["deploy.env.B"] == "deployment.yaml:1:44"
    assert loaded.origins["deploy.type"] == "deployment.yaml:1:54"


def test_shared_lists_that_dump_writes_as_aliases_are_read() -> None:
    shared = ["a.pt", "b.pt"]
    text = yaml.dump(
        {"deploy": {"type": "local", "entrypoint": "m.py", "env": {}}, "optional": {"weight_file": shared}}
    )
    text += yaml.dump({"build": {"components": {"libs": shared[:0]}}})
    both = yaml.dump({"a": shared, "b": shared})
    assert "&id001" in both
    assert parse(both, "f").findings == ()
    assert deployment_yaml.loads(text.encode()).spec.optional.weight_file == ("a.pt", "b.pt")


def test_merge_keys_are_supported() -> None:
    text = """
deploy:
  type: local
  entrypoint: main.py
  env: &common {A: one, B: two}
  secrets:
    <<: {C: c-key, D: d-key}
    D: own-key
"""
    secrets = deployment_yaml.loads(text.encode()).spec.deploy.secrets
    assert secrets == {"C": "c-key", "D": "own-key"}


@pytest.mark.parametrize("escape", ["\\0", "\\uD800"])
def test_characters_that_no_program_can_be_given_are_refused_in_values(escape: str) -> None:
    """PostgreSQL takes no NUL in a text, and no system call takes one in an argument."""
    lines = refusals(f'deploy: {{type: local, entrypoint: ["a{escape}b"]}}\n')
    assert lines[0].startswith("deployment.yaml:1:")


def test_line_breaks_in_values_do_not_break_notes_and_errors() -> None:
    loaded = deployment_yaml.loads(
        b'build: {os: "a\\nb", components: {}}\ndeploy: {type: l, entrypoint: "a \'b\\nc\'"}\n'
    )
    assert loaded.spec.deploy.entrypoint == ("a", "b\nc")
    assert all(note.isprintable() for note in loaded.notes)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.binary(max_size=2000))
@example(b"? ? ?\n: -")
@example(b"a: 0x_\nb: 0b_\nc: 1:99:99.\nd: .\ne: 1e999\nf: " + b"1" * 5000)
def test_any_bytes_give_a_specification_or_a_clear_error(data: bytes) -> None:
    _one_or_the_other(data)


YAML_TEXT = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.dates(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8) | st.integers(), inner, max_size=4),
    max_leaves=20,
)
KEYS = ["build", "deploy", "optional", "components", "libs", "custom_packages", "atp", "apt", "pypi", "entrypoint"]
KEYS += ["pre_exec", "network", "env", "secrets", "type", "k8s", "nfsip", "resources", "memory", "weight_file", "data"]
KEYS += [
    "architecture",
    "accelerator",
    "work_dir",
    "workdir",
    "scaling",
    "min_instances",
    "<<",
    "target_name",
    "health",
]
SHAPED = st.recursive(
    YAML_TEXT,
    lambda inner: st.dictionaries(st.sampled_from(KEYS), inner, max_size=5) | st.lists(inner, max_size=3),
    max_leaves=30,
)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.fixed_dictionaries({"deploy": SHAPED}, optional={"build": SHAPED, "optional": SHAPED}))
def test_any_values_under_known_keys_give_a_specification_or_a_clear_error(value: object) -> None:
    _one_or_the_other(yaml.dump(value, allow_unicode=True).encode())


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_a_specimen_with_a_torn_or_changed_piece_gives_a_clear_answer(data: st.DataObject) -> None:
    text = data.draw(st.sampled_from(SPECIMENS)).read_bytes()
    at = data.draw(st.integers(0, len(text)))
    _one_or_the_other(text[:at] + data.draw(st.binary(max_size=4)) + text[at + data.draw(st.integers(0, 40)) :])


def _one_or_the_other(data: bytes) -> None:
    """Within a second of this process's time, whatever else the machine is doing."""
    started = time.process_time()
    try:
        loaded = deployment_yaml.loads(data)
    except InvalidSpec as error:
        assert error.findings
        assert "\n" not in str(error)
        assert all(finding.line >= 1 and finding.column >= 1 for finding in error.findings)
    else:
        assert loaded.spec.deploy.type
        assert all("\n" not in note for note in loaded.notes)
    assert time.process_time() - started < 1
