"""Inflating and sha256 on another core, while this one writes: both let go of the interpreter while they work."""

from __future__ import annotations

import hashlib
import queue
import threading
from collections.abc import Callable
from types import TracebackType

_BATCH = 1 << 18
_WAITING_MAX = 8
"""Batches that may wait, so that memory stays bounded."""

Step = Callable[[Callable[[bytes], None]], None]
"""Work of the other core: it is handed what takes in the next bytes to be hashed."""


class SideHash:
    """As hashlib's sha256; what is to be hashed may also be worked out over there, in its turn.

    A context manager: its thread has ended when it is left. What a step raises comes out of a later call.
    """

    def __init__(self) -> None:
        self._hash = hashlib.sha256()
        self._waiting: queue.Queue[list[bytes | Step] | None] = queue.Queue(_WAITING_MAX)
        self._batch: list[bytes | Step] = []
        self._held = 0
        self._error: BaseException | None = None
        self._given_up = False
        self._thread = threading.Thread(target=self._work, name="side-hash", daemon=True)
        self._thread.start()

    def update(self, data: bytes) -> None:
        self._batch.append(data)
        self._hold(len(data))

    def step(self, work: Step, held: int) -> None:
        """held: bytes that the work keeps in memory until it is done."""
        self._batch.append(work)
        self._hold(held)

    def hexdigest(self) -> str:
        """Of all; nothing can be added any more."""
        self._send()
        self._end()
        if self._error is not None:
            raise self._error
        return self._hash.hexdigest()

    def _hold(self, size: int) -> None:
        self._held += size
        if self._held >= _BATCH:
            self._send()

    def _send(self) -> None:
        if self._error is not None:
            raise self._error
        self._waiting.put(self._batch)
        self._batch, self._held = [], 0

    def _work(self) -> None:
        while (batch := self._waiting.get()) is not None:
            if self._error is None and not self._given_up:
                try:
                    self._take(batch)
                except Exception as error:  # noqa: BLE001 - raised anew in the thread that asked
                    self._error = error

    def _take(self, batch: list[bytes | Step]) -> None:
        for part in batch:
            if isinstance(part, bytes):
                self._hash.update(part)
            else:
                part(self._hash.update)

    def _end(self) -> None:
        if self._thread.is_alive():
            self._waiting.put(None)
            self._thread.join()

    def __enter__(self) -> SideHash:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self._given_up = kind is not None
        self._end()
