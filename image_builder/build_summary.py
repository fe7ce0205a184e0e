"""What a build cost, from what was told while it ran. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from image_builder.contract import BuildSummary, LayerProgress


def summarise(layers: Iterable[LayerProgress], steps: Sequence[tuple[str, float]], end: float) -> BuildSummary:
    """steps: (name, Unix time when it began), in order; the last one ends at `end`. A step may come again."""
    rows = list(layers)
    built = [row for row in rows if (row.origin or row.state) == "built"]
    slowest = max(built, key=lambda row: row.seconds, default=None)
    return BuildSummary(
        fetched=sum(row.fetched for row in rows),
        built=sum(row.size for row in built),
        reused=sum(row.size for row in rows if (row.origin or row.state) == "reused"),
        mounted=sum(row.size for row in rows if row.state == "mounted"),
        uploaded=sum(row.size for row in rows if row.state == "uploaded"),
        steps=_seconds(steps, end),
        slowest=slowest.name if slowest else None,
    )


def _seconds(steps: Sequence[tuple[str, float]], end: float) -> dict[str, float]:
    ends = [begun for _, begun in steps[1:]] + [end]
    found: dict[str, float] = {}
    for (name, begun), over in zip(steps, ends, strict=False):
        found[name] = round(found.get(name, 0.0) + max(0.0, over - begun), 3)
    return found
