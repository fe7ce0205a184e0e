"""What is told of the layers while they are made: often enough to be watched, seldom enough to cost nothing."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import Literal

from image_builder.contract import LayerProgress, LayerState
from image_builder.layer_plan import LayerPlan
from image_builder.layers.index import Layer

_SECONDS_BETWEEN = 0.1


class LayerBoard:
    """The state of each layer of one build, told on. Thread-safe."""

    def __init__(self, tell: Callable[[LayerProgress], None]) -> None:
        self._tell = tell
        self._lock = threading.Lock()
        self._rows: dict[str, LayerProgress] = {}
        self._started: dict[str, float] = {}
        self._told: dict[str, float] = {}

    def expect(self, layers: Sequence[LayerPlan]) -> None:
        for layer in layers:
            self._update(LayerProgress(name=layer.name, kind=layer.kind))

    def advance(self, layer: LayerPlan, state: LayerState, done: int, total: int) -> None:
        """The first word of a state is told at once, the rest at most ten times a second."""
        now = time.monotonic()
        with self._lock:
            known = self._rows[layer.name]
            self._started.setdefault(layer.name, now)
            if known.state == state and now - self._told.get(layer.name, 0.0) < _SECONDS_BETWEEN:
                return
            self._told[layer.name] = now
        self._update(known.model_copy(update={"state": state, "done": done, "total": total}))

    def fetched(self, layer: LayerPlan, size: int) -> None:
        """Bytes of the layer's wheels that came over the network."""
        self._update(self._rows[layer.name].model_copy(update={"fetched": size}))

    def settle(self, layer: LayerPlan, made: Layer, state: Literal["built", "reused"]) -> None:
        """The layer is here; how it came about."""
        now = time.monotonic()
        seconds = now - self._started.get(layer.name, now)
        known = self._rows[layer.name]
        self._update(
            known.model_copy(
                update={
                    "state": state,
                    "origin": state,
                    "digest": made.digest,
                    "size": made.size,
                    "seconds": round(seconds, 3),
                    "done": known.total,
                }
            )
        )

    def publish(self, layer: LayerPlan, state: LayerState | None, done: int = 0) -> None:
        """A layer on its way to a registry: `fetching` (of a base) and `pushing` with the bytes that came or went, then
        `mounted` or `uploaded`. None: it is there already.
        """
        known = self._rows[layer.name]
        if state in ("fetching", "pushing"):
            self.advance(layer, state, done, known.size)
        elif state is not None:
            self._update(known.model_copy(update={"state": state, "done": known.size, "total": known.size}))

    def _update(self, row: LayerProgress) -> None:
        with self._lock:
            self._rows[row.name] = row
            self._tell(row)
