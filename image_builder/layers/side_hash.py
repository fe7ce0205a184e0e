"""Inflating and sha256 on another core, while this one writes: both let go of the interpreter while they work."""

from __future__ import annotations

import hashlib
import threading
from collections import deque
from collections.abc import Callable
from types import TracebackType

_BATCH = 1 << 18
_HELD_MAX = 4 << 20
"""Bytes that may wait, so that memory stays bounded."""
_PARTS = 256

Step = Callable[[Callable[[bytes], None]], None]
"""Work of the other core: it is handed what takes in the next bytes to be hashed."""


class SideHash:
    """As hashlib's sha256; what is to be hashed may also be worked out over there, in its turn.

    A context manager: its thread has ended when it is left. What a step raises comes out of a later call.
    """

    def __init__(self) -> None:
        self._hash = hashlib.sha256()
        self._changed = threading.Condition()
        self._waiting: deque[tuple[list[bytes | Step], int]] = deque()
        self._held = 0
        self._over = False
        self._error: BaseException | None = None
        self._batch: list[bytes | Step] = []
        self._size = 0
        self._thread = threading.Thread(target=self._work, name="side-hash", daemon=True)
        self._thread.start()

    def update(self, data: bytes) -> None:
        self._add(data, len(data))

    def step(self, work: Step, held: int = 0) -> None:
        """held: bytes that the work keeps in memory until it is done."""
        self._add(work, held)

    def hexdigest(self) -> str:
        """Of all; nothing can be added any more."""
        self._send()
        self._end()
        if self._error is not None:
            raise self._error
        return self._hash.hexdigest()

    def _add(self, part: bytes | Step, size: int) -> None:
        self._batch.append(part)
        self._size += size
        if self._size >= _BATCH or len(self._batch) >= _PARTS:
            self._send()

    def _send(self) -> None:
        with self._changed:
            while self._held > _HELD_MAX and self._error is None:
                self._changed.wait()
            if self._error is not None:
                raise self._error
            self._waiting.append((self._batch, self._size))
            self._held += self._size
            self._changed.notify()
        self._batch, self._size = [], 0

    def _work(self) -> None:
        while (taken := self._next()) is not None:
            try:
                self._take(taken[0])
            except BaseException as error:  # noqa: BLE001 - raised anew in the thread that asked
                self._error = error
            with self._changed:
                self._held -= taken[1]
                self._changed.notify()
            if self._error is not None:
                return

    def _next(self) -> tuple[list[bytes | Step], int] | None:
        with self._changed:
            while not self._waiting and not self._over:
                self._changed.wait()
            return self._waiting.popleft() if self._waiting else None

    def _take(self, batch: list[bytes | Step]) -> None:
        for part in batch:
            if isinstance(part, bytes):
                self._hash.update(part)
            else:
                part(self._hash.update)

    def _end(self) -> None:
        with self._changed:
            self._over = True
            self._changed.notify()
        self._thread.join()

    def __enter__(self) -> SideHash:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        if kind is not None:
            with self._changed:
                self._waiting.clear()
        self._end()
