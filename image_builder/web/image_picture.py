"""An image as a picture: its layers as areas by size. Pure; https://www.win.tue.nl/~vanwijk/stm.pdf"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import squarify

from image_builder.contract import RESTING, LayerProgress
from image_builder.web.humane import size

_SMALLEST = 0.006
"""Share of the whole below which an area could not be seen: smaller layers are drawn as large as this."""
_GAP = 3.0
_LINE = 18.0
_WIDTH_OF_LETTER = 7.4
_PADDING = 10.0


@dataclass(frozen=True, slots=True)
class Box:
    """A layer in the picture, in its units. name, size: as they fit; empty where they do not."""

    x: float
    y: float
    width: float
    height: float
    how: str
    title: str
    name: str
    size: str


@dataclass(frozen=True, slots=True)
class Picture:
    width: int
    height: int
    boxes: tuple[Box, ...]


def how_of(layer: LayerProgress) -> str:
    """`reused`, `mounted`, `built`, `uploaded`: how it came to where it is; `waiting` while it is on its way."""
    return layer.state if layer.state in RESTING else "waiting"


def picture(layers: Sequence[LayerProgress], width: int, height: int) -> Picture:
    """Layers with a size as boxes, the largest first (top left)."""
    drawn = sorted((layer for layer in layers if layer.size), key=lambda layer: (-layer.size, layer.name))
    if not drawn:
        return Picture(width, height, ())
    least = sum(layer.size for layer in drawn) * _SMALLEST
    areas = squarify.normalize_sizes([max(layer.size, least) for layer in drawn], width, height)
    places = squarify.squarify(areas, 0, 0, width, height)
    return Picture(width, height, tuple(_box(layer, place) for layer, place in zip(drawn, places, strict=True)))


def _box(layer: LayerProgress, place: dict[str, float]) -> Box:
    wide, high = max(place["dx"] - _GAP, 1.0), max(place["dy"] - _GAP, 1.0)
    bytes_ = size(layer.size)
    name = fitting(layer.name, wide) if high >= _LINE + _PADDING else ""
    shown = bytes_ if name and high >= 2 * _LINE + _PADDING and fitting(bytes_, wide) == bytes_ else ""
    place_ = (round(place["x"] + _GAP / 2, 1), round(place["y"] + _GAP / 2, 1), round(wide, 1), round(high, 1))
    return Box(*place_, how_of(layer), f"{layer.name}: {bytes_}", name, shown)


def fitting(text: str, width: float) -> str:
    """The text, shortened to what fits; empty if three letters would not."""
    room = int((width - 2 * _PADDING) / _WIDTH_OF_LETTER)
    if len(text) <= room:
        return text
    return f"{text[: room - 1]}…" if room >= 4 else ""
