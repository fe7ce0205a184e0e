"""The twin's memory: what a user would lose at a restart."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from gcp_emulator.state import FolderInUse, State


def test_rows_blobs_and_numbers_are_there_after_a_kill(tmp_path: Path) -> None:
    write = (
        "import os, sys, pathlib; from gcp_emulator.state import State; s = State(pathlib.Path(sys.argv[1]));"
        "s.json_table('a').put('k', {'x': 1}); s.bytes_table('b').put('k', b'\\xff'); s.next_number('n');"
        "f = s.blobs('c').new(); f.write_bytes(b'whole'); s.blobs('c').keep(f, 'k'); os.kill(os.getpid(), 9)"
    )
    assert subprocess.run([sys.executable, "-c", write, str(tmp_path)], check=False).returncode == -9
    state = State(tmp_path)
    assert state.json_table("a").get("k") == {"x": 1}
    assert state.bytes_table("b").get("k") == b"\xff"
    assert state.blobs("c").path("k").read_bytes() == b"whole"
    assert state.next_number("n") == 2
    state.close()


def test_a_transaction_that_fails_writes_nothing(tmp_path: Path) -> None:
    state = State(tmp_path)
    table = state.json_table("a")
    with pytest.raises(RuntimeError), state.transaction():
        with state.transaction():
            table.put("k", 1)
        raise RuntimeError
    assert table.get("k") is None
    with state.transaction():
        table.put("k", 1)
    assert table.get("k") == 1
    state.close()


def test_pages_are_whole_and_of_their_prefix_alone(tmp_path: Path) -> None:
    state = State(tmp_path)
    table = state.json_table("a")
    for key in ("p/1", "p/2", "p/\U0010fffd", "q/1", "o"):
        assert table.create(key, key)
    assert not table.create("o", "another")
    first = table.list("p/", limit=1)
    assert first == [("p/1", "p/1")]
    assert [key for key, _ in table.list("p/", after="p/1")] == ["p/2", "p/\U0010fffd"]
    assert state.json_table("b").list() == []
    assert table.delete("o")
    assert not table.delete("o")
    state.close()


def test_two_emulators_do_not_share_a_folder(tmp_path: Path) -> None:
    state = State(tmp_path)
    with pytest.raises(FolderInUse, match="another gcp_emulator"):
        State(tmp_path)
    state.close()
    State(tmp_path).close()


@pytest.mark.parametrize("key", ["", "..", "../x", "a/b", ".x", "x" * 201])
def test_no_key_reaches_outside_the_folder(tmp_path: Path, key: str) -> None:
    state = State(tmp_path)
    with pytest.raises(ValueError, match="no key"):
        state.blobs("c").path(key)
    state.close()
