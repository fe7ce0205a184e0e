"""Pages that lose or repeat a name would lose or repeat a layer, a log, a weight."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gcp_emulator.storage_errors import StorageError
from gcp_emulator.storage_listing import Asked, page

_NAMES = st.lists(st.text("ab/", min_size=1, max_size=6), unique=True).map(sorted)


def _all(names: list[str], **query: str) -> tuple[list[str], list[str]]:
    """Of all pages."""
    items: list[str] = []
    prefixes: list[str] = []
    token = ""
    for _ in range(len(names) + 1):
        found = page(Asked.of({**query, "pageToken": token}), ((name, name) for name in names))
        assert len(found.items) + len(found.prefixes) <= int(query.get("maxResults", 1000)) + 1
        items += found.items
        prefixes += found.prefixes
        token = found.token
        if not token:
            return items, prefixes
    raise AssertionError("the pages do not end")


def test_folders_are_prefixes() -> None:
    names = ["a", "b/c", "b/d/e", "b0", "c/"]
    assert _all(names, delimiter="/") == (["a", "b0"], ["b/", "c/"])
    assert _all(names, delimiter="/", prefix="b/") == (["b/c"], ["b/d/"])
    assert _all(names, delimiter="/", prefix="c/") == (["c/"], [])
    assert _all(names, delimiter="/", includeTrailingDelimiter="true") == (["a", "b0", "c/"], ["b/", "c/"])


def test_offsets_bound_the_names() -> None:
    names = ["a", "b", "c", "d"]
    assert _all(names, startOffset="b", endOffset="d") == (["b", "c"], [])


@given(_NAMES, st.sampled_from(["", "/", "a"]), st.sampled_from(["", "a", "a/", "/"]), st.integers(1, 4))
def test_pages_together_are_the_whole_list(names: list[str], delimiter: str, prefix: str, most: int) -> None:
    asked = {"delimiter": delimiter, "prefix": prefix}
    items, prefixes = _all(names, maxResults=str(most), **asked)
    assert (items, prefixes) == _all(names, **asked)
    assert sorted(set(items)) == items
    assert sorted(set(prefixes)) == prefixes
    assert {name for name in names if name.startswith(prefix)} == {
        name for name in names if name in items or any(name.startswith(folder) for folder in prefixes)
    }


def test_a_token_that_nobody_gave_is_refused() -> None:
    with pytest.raises(StorageError):
        Asked.of({"pageToken": "%%"})
