"""Several wheels side by side in one folder, as pip installs them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from image_builder.errors import ResolveFailed
from image_builder.layers.tar import Bytes, Entry
from image_builder.layers.wheel import Wheel
from image_builder.layers.wheel_member import Member
from image_builder.lock import PinnedWheel


def wheel_entries(
    wheels: Sequence[PinnedWheel],
    paths: Mapping[str, Path],
    python: str,
    opened: contextlib.ExitStack,
    log: Callable[[str], None] = lambda _: None,
) -> list[Entry]:
    """What the wheels install, each path once; the wheels stay open until `opened` is closed.

    Args:
        paths: sha256 -> file.
    """
    found: dict[str, Entry] = {}
    for wheel in sorted(wheels, key=lambda wheel: (wheel.name, wheel.sha256)):
        opening = Wheel(paths[wheel.sha256], wheel.filename, python)
        opened.callback(opening.close)
        _merge(found, opening.entries(), wheel.name, log)
    return list(found.values())


def _merge(found: dict[str, Entry], entries: list[Entry], name: str, log: Callable[[str], None]) -> None:
    """As pip does where two packages bring the same path: the later one wins. Unlike pip, it is said."""
    own: set[str] = set()
    for entry in entries:
        if entry.path in own:
            raise ResolveFailed(
                f"the wheel of {name} holds {entry.path} twice", "Pin another version of the package.", code="bad_wheel"
            )
        own.add(entry.path)
        if entry.path in found and not _alike(found[entry.path], entry):
            log(f"{entry.path} comes with several packages; the one of {name} is used")
        found[entry.path] = entry


def _alike(one: Entry, other: Entry) -> bool:
    left, right = one.content, other.content
    if isinstance(left, Member) and isinstance(right, Member):
        return left.identity == right.identity
    return isinstance(left, Bytes) and isinstance(right, Bytes) and left.data == right.data
