"""sha256 on another core, while this one inflates: both let go of the interpreter while they work."""

from __future__ import annotations

import hashlib
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor

_BATCH = 1 << 18
_WAITING_MAX = 8
"""Batches that may wait, so that memory stays bounded."""


class SideHash:
    """As hashlib's sha256. A context manager: its thread has ended when it is left."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="side-hash")
        self._waiting: deque[Future[None]] = deque()
        self._batch = bytearray()

    def update(self, data: bytes) -> None:
        if len(data) >= _BATCH:
            self._send()
            self._submit(data)
            return
        self._batch += data
        if len(self._batch) >= _BATCH:
            self._send()

    def hexdigest(self) -> str:
        self._send()
        while self._waiting:
            self._waiting.popleft().result()
        return self._hash.hexdigest()

    def _send(self) -> None:
        if self._batch:
            self._submit(bytes(self._batch))
            self._batch.clear()

    def _submit(self, data: bytes) -> None:
        self._waiting.append(self._thread.submit(self._hash.update, data))
        if len(self._waiting) > _WAITING_MAX:
            self._waiting.popleft().result()

    def __enter__(self) -> SideHash:
        return self

    def __exit__(self, *_exc: object) -> None:
        self._thread.shutdown(wait=True, cancel_futures=True)
