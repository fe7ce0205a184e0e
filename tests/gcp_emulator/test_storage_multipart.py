"""The bytes of an upload are those that were sent, however the network cuts them up."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gcp_emulator.storage_errors import StorageError
from gcp_emulator.storage_multipart import Part, Parts, boundary_of, whole_parts

_DATA = st.lists(st.sampled_from([b"\r", b"\n", b"-", b"--", b"--sep", b"\n--se", b"x", b"\0"]), max_size=8).map(
    b"".join
)


def _written(parts: list[bytes], newline: bytes) -> bytes:
    body = b"".join(b"--sep" + newline + b"Content-Type: a/b" + newline * 2 + data + newline for data in parts)
    return body + b"--sep--" + newline


@given(_DATA, st.sampled_from([b"\r\n", b"\n"]), st.integers(1, 7))
def test_the_parts_are_the_same_however_they_arrive(data: bytes, newline: bytes, step: int) -> None:
    if newline + b"--sep" in newline + data + newline:
        return  # a boundary is chosen so that it is not in the data
    body = _written([b"{}", data], newline)
    parts = Parts(b"sep")
    events = [event for at in range(0, len(body), step) for event in parts.feed(body[at : at + step])]
    parts.finish()
    begins = [at for at, event in enumerate(events) if isinstance(event, Part)]
    assert len(begins) == 2
    assert b"".join(event for event in events[begins[1] :] if isinstance(event, bytes)) == data


def test_headers_of_a_part_are_read() -> None:
    (headers, data), *_ = whole_parts(b"sep", _written([b"one", b"two"], b"\r\n"))
    assert (headers["content-type"], data) == ("a/b", b"one")


@pytest.mark.parametrize(
    "body", [b"", b"--sep\r\n", b"--sep\r\nA: b\r\n\r\ndata", b"--sep\r\nA: b\r\n\r\ndata\r\n--sep"]
)
def test_a_body_that_breaks_off_is_no_body(body: bytes) -> None:
    with pytest.raises(StorageError):
        whole_parts(b"sep", body)


def test_a_body_that_never_begins_is_refused_before_it_fills_the_memory() -> None:
    with pytest.raises(StorageError):
        Parts(b"sep").feed(b"x" * 100_000)


def test_the_boundary_may_be_quoted() -> None:
    assert boundary_of('multipart/related; boundary="==a b=="') == b"==a b=="
    assert boundary_of("multipart/related; boundary='==a=='") == b"==a=="
    with pytest.raises(StorageError):
        boundary_of("application/json")
