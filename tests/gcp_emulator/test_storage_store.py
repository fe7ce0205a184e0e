"""The folder holds what the objects are made of, and nothing that nobody can reach."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from gcp_emulator.clock import ManualClock
from gcp_emulator.state import State
from gcp_emulator.storage_checksums import Expected
from gcp_emulator.storage_errors import StorageError
from gcp_emulator.storage_preconditions import Preconditions
from gcp_emulator.storage_resources import merged, new_bucket, shown_object
from gcp_emulator.storage_store import Incoming, Store

_ALWAYS = Preconditions()
Json = dict[str, object]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    state = State(tmp_path)
    store = Store(state, ManualClock(), "1")
    store.create_bucket(new_bucket("b", {}, project_number="1", now=store.now()))
    yield store
    state.close()


def _put(store: Store, name: str, data: bytes, conditions: Preconditions = _ALWAYS) -> Json:
    with Incoming(store) as incoming:
        incoming.write(data)
        return store.put(("b", name), {}, incoming.done(), conditions)


def _files(store: Store) -> list[Path]:
    return [path for path in store.blobs.path("0").parent.rglob("*") if path.is_file()]


def test_what_is_written_over_or_deleted_leaves_its_room(store: Store) -> None:
    _put(store, "a", b"1")
    _put(store, "a", b"2")
    assert [path.read_bytes() for path in _files(store)] == [b"2"]
    store.delete_object(store.object("b", "a"))
    assert _files(store) == []


def test_a_refused_write_leaves_nothing(store: Store) -> None:
    with pytest.raises(StorageError):
        _put(store, "a", b"1", Preconditions(generation=5))
    assert _files(store) == []


def test_a_copy_outlives_what_it_was_made_of(store: Store) -> None:
    _put(store, "a", b"data")
    row = store.object("b", "a")
    copy = store.put(("b", "copy"), {}, store.link(row), _ALWAYS)
    store.delete_object(row)
    assert store.blobs.path(str(copy["generation"])).read_bytes() == b"data"


def test_what_a_sudden_end_left_is_swept_and_an_open_upload_is_kept(store: Store) -> None:
    _put(store, "a", b"kept")
    store.blobs.keep(store.blobs.new(), "stray")
    store.blobs.new()
    open_upload = store.blobs.new()
    store.uploads.put("u", {"file": open_upload.name})
    store.sweep()
    assert {path.name for path in _files(store)} == {open_upload.name, f"={store.object('b', 'a')['blob']}"}


def test_generations_only_grow_whatever_the_clock_says(store: Store) -> None:
    """A generation that comes twice would let a condition hold for what it was not made for."""
    generations = []
    for _ in range(3):
        generations.append(int(str(_put(store, "a", b"")["generation"])))
        store.delete_object(store.object("b", "a"))
    assert sorted(set(generations)) == generations


def test_a_null_takes_a_field_away() -> None:
    kept = {"labels": {"a": "1", "b": "2"}, "cors": [1]}
    assert merged(kept, {"labels": {"a": None, "c": "3"}, "cors": None}) == {"labels": {"b": "2", "c": "3"}}
    assert merged(kept, {"labels": {"a": None, "b": None}}) == {"cors": [1]}


def test_links_and_etags_are_those_that_the_service_makes(store: Store) -> None:
    shown = shown_object(_put(store, "a/ü", os.urandom(3)), "https://storage.googleapis.com")
    assert shown["selfLink"] == "https://storage.googleapis.com/storage/v1/b/b/o/a%2F%C3%BC"
    assert shown["etag"] == "CICA+cDBxIIDEAE="
    assert json.dumps(shown)


def test_sums_are_read_from_either_header() -> None:
    assert Expected.of({}, {"x-goog-hash": "crc32c=AAAA,md5=BBBB=="}) == Expected("AAAA", "BBBB==")
    assert Expected.of({"crc32c": "CCCC"}, {"content-md5": "DDDD"}) == Expected("CCCC", "DDDD")
