"""Clients that ask for a part of the answer get that part: no more, and no less."""

from __future__ import annotations

from typing import Any

import pytest

from gcp_emulator.storage_errors import StorageError
from gcp_emulator.storage_fields import only, parse

_LIST: dict[str, Any] = {
    "kind": "k",
    "items": [{"name": "a", "size": "1", "metadata": {"x": "1", "y": "2"}}, {"name": "b", "size": "2"}],
    "nextPageToken": "t",
}


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ("kind", {"kind": "k"}),
        ("items/name", {"items": [{"name": "a"}, {"name": "b"}]}),
        ("items(name),nextPageToken", {"items": [{"name": "a"}, {"name": "b"}], "nextPageToken": "t"}),
        ("items(metadata/x, name)", {"items": [{"name": "a", "metadata": {"x": "1"}}, {"name": "b"}]}),
        ("items/name,items/size", {"items": [{"name": "a", "size": "1"}, {"name": "b", "size": "2"}]}),
        ("nothing", {}),
        ("*", _LIST),
    ],
)
def test_a_partial_answer(fields: str, expected: dict[str, Any]) -> None:
    assert only(parse(fields), _LIST) == expected


@pytest.mark.parametrize("fields", ["items(", "items)", ",", "a,,b", "a(b", "/a", "a/"])
def test_a_mask_that_cannot_be_read_is_refused(fields: str) -> None:
    with pytest.raises(StorageError):
        parse(fields)
