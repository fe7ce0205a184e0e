"""An upload that is interrupted goes on where it was, and what comes of it is what was sent."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gcp_emulator.storage_checksums import base64_of
from gcp_emulator.storage_errors import StorageError
from gcp_emulator.storage_ranges import Sent
from gcp_emulator.storage_resumable import QUANTUM, Arriving, Body, Plan, plan


def test_what_is_there_already_is_skipped() -> None:
    assert plan(QUANTUM, None, Sent(0, 2 * QUANTUM - 1, None)) == Plan(QUANTUM, None)
    assert plan(QUANTUM, None, Sent(QUANTUM, 2 * QUANTUM - 1, 2 * QUANTUM)) == Plan(0, 2 * QUANTUM)
    assert plan(QUANTUM, 5, None) == Plan(QUANTUM, 5, whole=True)


def test_a_gap_is_refused_so_that_the_client_asks_how_far_it_is() -> None:
    with pytest.raises(StorageError) as raised:
        plan(QUANTUM, None, Sent(2 * QUANTUM, 3 * QUANTUM - 1, None))
    assert raised.value.status == 503
    assert "exceeds already uploaded size of 262144 byte(s)" in raised.value.message


def test_an_object_does_not_change_its_size_on_the_way() -> None:
    with pytest.raises(StorageError):
        plan(0, 10, Sent(0, 9, 11))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40, deadline=None)
@given(st.integers(0, 3 * QUANTUM), st.lists(st.integers(0, 2 * QUANTUM), max_size=4))
def test_broken_off_anywhere_and_taken_up_by_another_process(tmp_path: Path, size: int, breaks: list[int]) -> None:
    """Each break leaves whole quanta; the next run begins there."""
    data = os.urandom(size)
    path = tmp_path / "file"
    path.write_bytes(b"")
    for length in [*breaks, size]:
        arriving = Arriving(path)
        first = arriving.received
        body = Body(
            arriving, plan(first, size, Sent(first, size - 1, size) if first < size else Sent(None, None, size))
        )
        body.feed(data[first : min(size, first + length)])
        assert arriving.received % QUANTUM == 0
    assert body.finish()
    assert path.read_bytes() == data
    assert arriving.sums().md5 == base64_of(hashlib.md5(data).digest())


def test_a_half_written_quantum_is_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"x" * (QUANTUM + 5))
    assert Arriving(path).received == QUANTUM
    assert path.stat().st_size == QUANTUM


def test_an_older_request_writes_no_more(tmp_path: Path) -> None:
    """A client that was cut off sends again; its first connection may still be half alive."""
    path = tmp_path / "file"
    path.write_bytes(b"")
    arriving = Arriving(path)
    older = Body(arriving, Plan(0, None))
    newer = Body(arriving, Plan(0, None))
    newer.feed(b"n" * QUANTUM)
    with pytest.raises(StorageError):
        older.feed(b"o" * QUANTUM)
    assert path.read_bytes() == b"n" * QUANTUM


def test_more_bytes_than_announced_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"")
    with pytest.raises(StorageError):
        Body(Arriving(path), Plan(0, 3)).feed(b"1234")
