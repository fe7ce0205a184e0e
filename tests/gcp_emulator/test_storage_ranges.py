"""A byte too many or too few in a range, and every resumed download is corrupt."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gcp_emulator.storage_errors import RangeNotSatisfiable, StorageError
from gcp_emulator.storage_ranges import Sent, sent, wanted


@pytest.mark.parametrize(
    ("header", "size", "expected"),
    [
        (None, 10, None),
        ("bytes=0-3", 10, (0, 4)),
        ("bytes=4-", 10, (4, 10)),
        ("bytes=4-99", 10, (4, 10)),
        ("bytes=-3", 10, (7, 10)),
        ("bytes=-30", 10, (0, 10)),
        ("bytes=0-1,4-5", 10, None),
        ("bytes=5-2", 10, None),
        ("lines=0-1", 10, None),
        ("bytes=-", 10, None),
    ],
)
def test_what_is_asked_for(header: str | None, size: int, expected: tuple[int, int] | None) -> None:
    assert wanted(header, size) == expected


@pytest.mark.parametrize(("header", "size"), [("bytes=10-", 10), ("bytes=10-12", 10), ("bytes=0-", 0), ("bytes=-0", 9)])
def test_a_range_outside_names_the_size(header: str, size: int) -> None:
    with pytest.raises(RangeNotSatisfiable) as raised:
        wanted(header, size)
    assert raised.value.size == size


@given(st.integers(0, 20), st.integers(0, 20), st.binary(min_size=1, max_size=20))
def test_the_bytes_are_those_that_the_header_names(first: int, last: int, data: bytes) -> None:
    if first > last or first >= len(data):
        return
    found = wanted(f"bytes={first}-{last}", len(data))
    assert found is not None
    assert data[slice(*found)] == bytes(byte for at, byte in enumerate(data) if first <= at <= last)


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("bytes 0-99/1000", Sent(0, 99, 1000)),
        ("bytes 0-99/*", Sent(0, 99, None)),
        ("bytes */1000", Sent(None, None, 1000)),
        ("bytes */*", Sent()),
    ],
)
def test_what_is_sent(header: str, expected: Sent) -> None:
    assert sent(header) == expected


@pytest.mark.parametrize("header", ["", "bytes 5-2/10", "bytes 0-10/10", "0-3/4", "bytes 0-/4", "bytes -4/4"])
def test_a_range_that_cannot_be_is_refused(header: str) -> None:
    with pytest.raises(StorageError):
        sent(header)
