"""The tables: absolute values, and how many times ours they are."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from statistics import median

from rich.console import Console
from rich.table import Table

from bench.images.measure import Candidate, Results
from bench.images.meter import Figures
from bench.images.ours import NAME
from bench.images.workload import AGAIN, EMPTY, SCENARIOS

AIMS = {"cold": 5.6, "one line": 0.23, "one dependency": 0.41, "1 MB of weights": 1.9, "second project": 2.0}
"""Wall seconds that a prototype took."""
AIM_MEMORY = 200  # MB, of 10**6 bytes

_WIDTH = 120  # where no terminal says how wide it is
_NOTES = """
cold: wheels on the disk, base pulled, caches empty. Wheels are served to the peers from loopback, to ours as a folder.
CPU: the builder's processes and its containers, the registry and the server of wheels not. An engine that others use
at the same time is measured with their work. Memory: resident, with the daemons' own. Pip compiles bytecode, uv and
ours do not. One registry for each candidate, with nothing but the base; sent is what it grows by.
"""

Of = Callable[[Figures], float]
_MEASURES: Sequence[tuple[str, Of, str]] = (
    ("wall seconds", lambda row: row.seconds, ".2f"),
    ("CPU seconds", lambda row: row.processor, ".2f"),
    ("peak memory, MB", lambda row: row.memory / 1e6, ".0f"),
    ("MB sent to the registry", lambda row: row.sent / 1e6, ".1f"),
)


def report(results: Results, candidates: Sequence[Candidate]) -> None:
    console = Console()
    if not console.is_terminal:
        console = Console(width=_WIDTH)
    console.print(_NOTES, highlight=False)
    measured = [each for each in candidates if (each.name, SCENARIOS[0]) in results.figures]
    for each in measured:
        console.print(f"{each.name}: {each.version}", highlight=False)
    for title, of, form in _MEASURES:
        aims = AIMS if title == "wall seconds" else {}
        console.print(_table(title, of, form, aims, results, [each.name for each in measured]))
    _print_steps(console, results)
    for name, why in results.failures.items():
        console.print(f"{name}: not measured to the end, {why}", highlight=False, markup=False)


def _table(title: str, of: Of, form: str, aims: Mapping[str, float], results: Results, names: Sequence[str]) -> Table:
    table = Table(title=f"{title} (times ours)" if NAME in names else title, title_justify="left")
    table.add_column("")
    for name in names:
        table.add_column(name, justify="right")
        if name == NAME and aims:
            table.add_column("aim", justify="right")
    ours_alone = (EMPTY, AGAIN) if NAME in names else ()
    for scenario in (*SCENARIOS, *ours_alone):
        table.add_row(
            scenario, *_cells(scenario, of, form, aims, results, names), end_section=scenario == SCENARIOS[-1]
        )
    return table


def _cells(
    scenario: str, of: Of, form: str, aims: Mapping[str, float], results: Results, names: Sequence[str]
) -> list[str]:
    own = results.figures.get((NAME, scenario))
    cells = []
    for name in names:
        rows = results.figures.get((name, scenario))
        value = median(map(of, rows)) if rows else None
        cells.append("-" if value is None else f"{value:{form}}{_ratio(value, own, of) if name != NAME else ''}")
        if name == NAME and aims:
            cells.append(f"{aims[scenario]:.2f}" if scenario in aims else "")
    return cells


def _ratio(value: float, own: Sequence[Figures] | None, of: Of) -> str:
    base = median(map(of, own)) if own else 0.0
    return f" ({value / base:.1f})" if base > 0 else ""


def _print_steps(console: Console, results: Results) -> None:
    """Where our seconds go, by the builder's own word; and its memory without that of uv."""
    steps = results.steps
    if not steps:
        return
    names = list(dict.fromkeys(name for row in steps.values() for name in row))
    table = Table(title="ours, seconds by step (last round)", title_justify="left")
    for heading in ("", *names, "service alone, MB"):
        table.add_column(heading, justify="right" if heading else "left")
    for scenario, row in steps.items():
        memory = results.figures[NAME, scenario][-1].daemons / 1e6
        table.add_row(scenario, *(f"{row[name]:.2f}" if name in row else "" for name in names), f"{memory:.0f}")
    console.print(table)


def report_memory(found: Mapping[int, Figures]) -> None:
    for size, row in found.items():
        memory = f"peak memory {row.memory / 1e6:.0f} MB resident (aim: under {AIM_MEMORY})"
        print(f"weights of {size / 1e6:,.0f} MB: {memory}, {row.seconds:.1f} s, CPU {row.processor:.1f} s")
