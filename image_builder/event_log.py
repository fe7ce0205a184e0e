"""The history of one build: a file of lines, and what matters only while it happens."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from pydantic import ValidationError

from image_builder.contract import RESTING, BuildEvent, BuildSummary, LayerProgress

_log = logging.getLogger(__name__)

_STRIDE = 1000
_BATCH_BYTES = 1 << 18
_LONGEST_MESSAGE = 4000


class Note(NamedTuple):
    """What an event says, before it has a number and a time."""

    kind: Literal["step", "layer", "log", "done"]
    message: str
    layer: LayerProgress | None = None
    base: str | None = None
    layers: tuple[LayerProgress, ...] = ()
    summary: BuildSummary | None = None


class EventLog:
    """Events are numbered from 1 and never renumbered. Used on the event loop, except for `open`.

    The progress of a layer is not kept, only its newest event is held for those who listen; a number divisible by
    1000 is kept whatever it is. So after a restart the next such number is above all that were ever given out
    (`skip_unkept`), and a listener who resumes misses nothing.
    """

    def __init__(self, path: Path, end: int, last: BuildEvent | None) -> None:
        self._path = path
        self._end = end
        self._progress: dict[str, BuildEvent] = {}
        self.last = last.sequence if last else 0
        self.ends_with_done = last is not None and last.kind == "done"
        self.news = asyncio.Event()

    @classmethod
    def open(cls, path: Path) -> EventLog:
        """Blocking. A last line that was cut short by a crash is cut off."""
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            return cls(path, 0, None)
        end = data.rfind(b"\n") + 1
        if end < len(data):
            os.truncate(path, end)
        parsed = (_parse(line) for line in reversed(data[:end].splitlines()))
        return cls(path, end, next((event for event in parsed if event), None))

    def skip_unkept(self) -> None:
        """Call after a crash: the numbers given to events that were not kept are not given again."""
        if self.last:
            self.last = (self.last // _STRIDE + 1) * _STRIDE

    def append(self, time: float, notes: Sequence[Note]) -> None:
        """Number the notes, keep them, wake who listens. A disk that refuses costs the lines, never the build."""
        kept = b""
        for note in notes:
            self.last += 1
            said = note._asdict() | {"message": note.message[:_LONGEST_MESSAGE]}
            event = BuildEvent(sequence=self.last, time=time, **said)
            self.ends_with_done = event.kind == "done"
            if self._is_kept(event):
                kept += event.model_dump_json().encode() + b"\n"
        if self.ends_with_done:
            self._progress.clear()
        self._write(kept)
        self.wake()

    def wake(self) -> None:
        news, self.news = self.news, asyncio.Event()
        news.set()

    def _is_kept(self, event: BuildEvent) -> bool:
        if event.layer is None:
            return True
        if event.layer.state in RESTING:
            self._progress.pop(event.layer.name, None)
            return True
        self._progress[event.layer.name] = event
        return event.sequence % _STRIDE == 0

    def _write(self, data: bytes) -> None:
        if not data:
            return
        try:
            with self._path.open("ab") as file:
                file.write(data)
            self._end += len(data)
        except OSError as error:
            _log.warning("events lost, cannot write %s: %s", self._path, error)
            if self._path.exists():
                os.truncate(self._path, self._end)

    async def read(self, position: Position) -> list[BuildEvent]:
        """The next events after a position, which moves on; empty when there are none yet."""
        end, last, progress = self._end, self.last, list(self._progress.values())
        fresh: dict[int, BuildEvent] = {}
        while position.offset < end and not fresh:
            batch = await asyncio.to_thread(position.read_file, self._path, end)
            fresh = {event.sequence: event for event in batch if event.sequence > position.after}
        if position.offset >= end:
            fresh |= {event.sequence: event for event in progress if event.sequence > position.after}
        position.after = max(fresh, default=position.after)
        return [_shown(fresh[number], last) for number in sorted(fresh)]


class Position:
    """How far a listener has read: `after` is the number of the last event it has."""

    def __init__(self, after: int) -> None:
        self.after = after
        self.offset = 0

    def read_file(self, path: Path, end: int) -> list[BuildEvent]:
        """Blocking: whole lines from the offset on, a bounded piece at a time."""
        with path.open("rb") as file:
            file.seek(self.offset)
            size = min(end - self.offset, _BATCH_BYTES)
            data = file.read(size)
            if not data.endswith(b"\n"):
                data += file.readline()
        self.offset += len(data)
        return [event for line in data.splitlines() if (event := _parse(line))]


def _parse(line: bytes) -> BuildEvent | None:
    try:
        return BuildEvent.model_validate_json(line)
    except ValidationError:  # a line damaged by a power cut costs itself only
        return None


def _shown(event: BuildEvent, last: int) -> BuildEvent:
    """A build may run again after it was done; only the last `done` ends a stream, earlier ones are history."""
    if event.kind == "done" and event.sequence < last:
        return event.model_copy(update={"kind": "log"})
    return event
