"""`make bench`, made small: that it still fits the manager, not how fast that is."""

from __future__ import annotations

import pytest

from bench.status_request import main


def test_the_bench_runs_and_every_answer_is_right(capsys: pytest.CaptureFixture[str]) -> None:
    """Else nobody notices when the hot path gets slow."""
    main(projects=50, rounds=1, seconds=0.2)
    printed = capsys.readouterr().out
    assert "ratio" in printed
    rows = [line.split("│") for line in printed.splitlines() if line.startswith("│")]
    assert [row[-2].strip() for row in rows] == ["0", "0"]
