"""Names: nothing outside the shared root can be named, and no two projects share a remote name."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloud_manager import names
from cloud_manager.deployment import Key
from cloud_manager.errors import BadRequest, NotFound

IDS = st.from_regex(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}", fullmatch=True)
KEYS = st.builds(Key, IDS, IDS)


@pytest.mark.parametrize("good", ["7", "42", "root", "a.b_c-d", "A" * 64, "-", "_x"])
def test_ids_that_tango_uses_are_taken(good: str) -> None:
    assert names.check_id(good, "user_id") == good


@pytest.mark.parametrize(
    "bad",
    ["", ".", "..", "../x", "a/b", "a\\b", "%2f", "a\0b", "A" * 65, ".hidden", "é", "a b", "7\n", "٣", '"7"'],
)
def test_an_id_that_could_lead_elsewhere_is_refused_by_name(bad: str) -> None:
    with pytest.raises(BadRequest) as caught:
        names.check_id(bad, "project_id")
    assert caught.value.problem.cause.startswith("project_id ")
    assert "\n" not in caught.value.problem.cause


@given(st.text())
def test_no_id_ever_leaves_its_folder(value: str) -> None:
    try:
        names.check_id(value, "user_id")
    except BadRequest:
        return
    root = Path("/shared/common")
    assert (root / value).resolve().parent == root.resolve()


def test_the_folder_of_a_project(tmp_path: Path) -> None:
    (tmp_path / "common/7/42").mkdir(parents=True)
    assert names.project_dir(tmp_path, Key("7", "42")) == tmp_path / "common/7/42"


def test_a_shared_root_that_is_itself_a_link_serves(tmp_path: Path) -> None:
    """On macOS /tmp is a link; the answer stays under the root that was given."""
    (tmp_path / "real/common/7/42").mkdir(parents=True)
    (tmp_path / "root").symlink_to(tmp_path / "real")
    assert names.project_dir(tmp_path / "root", Key("7", "42")) == tmp_path / "root/common/7/42"


@pytest.mark.parametrize(("key", "what"), [(Key("8", "42"), "user 8"), (Key("7", "43"), "project 43 of user 7")])
def test_what_is_missing_is_named(tmp_path: Path, key: Key, what: str) -> None:
    (tmp_path / "common/7/42").mkdir(parents=True)
    with pytest.raises(NotFound, match=what):
        names.project_dir(tmp_path, key)


@pytest.mark.parametrize("link", ["common/7/42", "common/7"])
def test_a_link_out_of_the_shared_root_is_refused(tmp_path: Path, link: str) -> None:
    (tmp_path / "outside/42").mkdir(parents=True)
    (tmp_path / "root" / link).parent.mkdir(parents=True)
    (tmp_path / "root" / link).symlink_to(tmp_path / "outside")
    with pytest.raises(NotFound, match="outside"):
        names.project_dir(tmp_path / "root", Key("7", "42"))


def test_a_link_within_the_shared_root_is_followed(tmp_path: Path) -> None:
    (tmp_path / "common/7/42").mkdir(parents=True)
    (tmp_path / "common/7/latest").symlink_to("42")
    assert names.project_dir(tmp_path, Key("7", "latest")) == tmp_path / "common/7/42"


def test_links_in_a_circle_and_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "common/7").mkdir(parents=True)
    (tmp_path / "common/7/loop").symlink_to("loop")
    (tmp_path / "common/7/file").write_text("")
    with pytest.raises(NotFound, match="cannot be read"):
        names.project_dir(tmp_path, Key("7", "loop"))
    with pytest.raises(NotFound, match="is not a folder"):
        names.project_dir(tmp_path, Key("7", "file"))


@given(KEYS, st.none() | st.text(max_size=100))
def test_a_service_id_is_one_that_cloud_run_takes(key: Key, service_name: str | None) -> None:
    name = names.service_id(key, service_name)
    assert re.fullmatch(r"[a-z]([a-z0-9-]{0,47}[a-z0-9])?", name)
    assert name == names.service_id(key, service_name)


def test_two_projects_with_one_service_name_have_two_services() -> None:
    made = {names.service_id(Key(user, project), "hello") for user, project in (("1", "23"), ("12", "3"), ("1", "2.3"))}
    assert len(made) == 3
    assert all(name.startswith("hello-") for name in made)


@given(KEYS, KEYS)
def test_labels_are_valid_and_tell_projects_apart(one: Key, other: Key) -> None:
    for value in names.labels(one, "0123456789abcdef").values():
        assert re.fullmatch(r"[a-z0-9_-]{1,63}", value)
    assert (names.labels(one, "r") == names.labels(other, "r")) == (one == other)


def test_a_label_cannot_be_forged_by_an_id_that_looks_hashed() -> None:
    victim = names.labels(Key("A.B", "1"), "r")["cloud-deploy-user"]
    assert names.labels(Key(victim, "1"), "r")["cloud-deploy-user"] != victim


@pytest.mark.parametrize("service_name", [None, "hello"])
def test_two_installations_in_one_google_project_never_share_a_name(service_name: str | None) -> None:
    key = Key("7", "42")
    made = {owner: names.service_id(key, service_name, owner) for owner in ("cloud-deploy", "staging", "x" * 31)}
    assert len(set(made.values())) == 3
    assert made["cloud-deploy"] == names.service_id(key, service_name), "what runs already keeps its name"
    assert all(len(name) <= 49 and name[0].isalpha() for name in made.values())
    assert names.labels(key, "r", "staging")["cloud-deploy-owner"] == "staging"
