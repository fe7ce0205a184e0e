"""What a running build says, carried from its threads to the event loop."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable

from image_builder.clock import Clock
from image_builder.contract import RESTING, LayerProgress
from image_builder.event_log import Note
from image_builder.job import Step

_PERIOD = 0.25  # seconds between two progress events of a layer: as often as an eye follows


class BuildReport:
    """A pipeline's `Reporter`: any thread may call; `deliver` is called on the loop, in order, never after `close`."""

    def __init__(self, clock: Clock, deliver: Callable[[list[Note]], None]) -> None:
        self._clock = clock
        self._deliver = deliver
        self._loop = asyncio.get_running_loop()
        self._lock = threading.Lock()
        self._notes: list[Note] = []
        self._shown: dict[str, tuple[str, float]] = {}
        self._closed = False

    def step(self, name: Step) -> None:
        self._add(Note("step", name))

    def layer(self, progress: LayerProgress) -> None:
        if self._is_worth_telling(progress):
            self._add(Note("layer", f"{progress.name}: {progress.state}", progress))

    def base(self, reference: str) -> None:
        self._add(Note("log", f"base image: {reference}", base=reference))

    def log(self, message: str) -> None:
        self._add(Note("log", message))

    def close(self) -> None:
        """On the loop: hand over what is left; what a straggling thread says from now on is dropped."""
        self._flush()
        with self._lock:
            self._closed = True

    def _is_worth_telling(self, progress: LayerProgress) -> bool:
        now = self._clock.now()
        with self._lock:
            state, told = self._shown.get(progress.name, ("", 0.0))
            if state == progress.state and progress.state not in RESTING and 0 <= now - told < _PERIOD:
                return False
            self._shown[progress.name] = (progress.state, now)
            return True

    def _add(self, note: Note) -> None:
        with self._lock:
            if self._closed:
                return
            self._notes.append(note)
            if len(self._notes) == 1:
                self._loop.call_soon_threadsafe(self._flush)

    def _flush(self) -> None:
        with self._lock:
            notes, self._notes = self._notes, []
        if notes:
            self._deliver(notes)
