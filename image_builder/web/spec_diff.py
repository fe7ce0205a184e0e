"""What is different between two specifications. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from image_builder.web.masking import shown_value


@dataclass(frozen=True, slots=True)
class Difference:
    """before, after: as they may be shown; `-` for what was not there."""

    path: str
    before: str
    after: str


def differences(before: dict[str, Any] | None, after: dict[str, Any] | None) -> tuple[Difference, ...]:
    """In the order of the paths; nothing if one of them is not known. Defaults that both have are the same."""
    if before is None or after is None:
        return ()
    old, new = dict(_leaves(before, "")), dict(_leaves(after, ""))
    changed = [path for path in sorted({*old, *new}) if old.get(path) != new.get(path)]
    return tuple(_difference(path, old.get(path), new.get(path)) for path in changed)


def _difference(path: str, old: Any, new: Any) -> Difference:
    return Difference(path, shown_value(path, old), shown_value(path, new))


def _leaves(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    """Lists are one value each: an inserted item would shift all that come after it."""
    if isinstance(value, dict):
        for name, part in value.items():
            yield from _leaves(part, f"{path}.{name}" if path else str(name))
    elif isinstance(value, list):
        yield path, ", ".join(map(_item, value))
    elif value not in (None, ""):
        yield path, value


def _item(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{name}: {shown_value(name, part)}" for name, part in value.items()) + "}"
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)
