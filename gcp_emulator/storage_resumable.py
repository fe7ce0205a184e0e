"""Resumable uploads: how far one is, what a request adds to it, and what survives a sudden end.

https://cloud.google.com/storage/docs/performing-resumable-uploads . What is kept of an unfinished upload is always a
multiple of 256 KiB, so the length of its file says all; the rest of a request that breaks off is sent again.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from gcp_emulator.storage_checksums import Sums, sums_of
from gcp_emulator.storage_errors import PlainError, invalid
from gcp_emulator.storage_ranges import Sent

QUANTUM = 256 << 10
_GAP = (  # two spaces, as the service has it
    "Invalid request.  According to the Content-Range header, the upload offset is {first} byte(s),"
    " which exceeds already uploaded size of {received} byte(s)."
)


@dataclass(frozen=True)
class Plan:
    """What to do with a request's body."""

    skip: int
    """Bytes at its beginning that are there already."""
    total: int | None
    """Of the object, once it is known."""
    whole: bool = False
    """The body is the object up to its end, whatever its length."""


def plan(received: int, known: int | None, sent: Sent | None) -> Plan:
    """`known`: the object's size as said before; `sent` None: without Content-Range, all in one request.

    Raises StorageError 503 for a gap (the client asks how far it is, and goes on from there), 400 for another size.
    """
    if sent is None:
        return Plan(received, known, whole=True)
    if None not in (known, sent.total) and known != sent.total:
        raise invalid(f"Invalid request. The object's size was said to be {known} bytes, and now {sent.total}.")
    total = known if sent.total is None else sent.total
    if sent.first is None:
        return Plan(0, total)
    if sent.first > received:
        raise PlainError(503, "backendError", _GAP.format(first=sent.first, received=received))
    return Plan(received - sent.first, total)


class Arriving:
    """The bytes of one unfinished upload. The newest request owns it: an older one, whose client is gone, may write
    no more."""

    def __init__(self, path: Path) -> None:
        """Takes up what an earlier run left. Raises FileNotFoundError."""
        size = path.stat().st_size
        self.path = path
        self.received = size - size % QUANTUM
        os.truncate(path, self.received)
        self._summing = sums_of(path, self.received)
        self._owner = object()

    def own(self) -> object:
        self._owner = object()
        return self._owner

    def add(self, owner: object, piece: bytes) -> None:
        """Raises StorageError 503 for an owner of before."""
        if owner is not self._owner:
            raise PlainError(503, "backendError", "Another request goes on with this upload.")
        with self.path.open("ab", buffering=0) as file:
            file.write(piece)
        self._summing.update(piece)
        self.received += len(piece)

    def sums(self) -> Sums:
        return self._summing.done()


class Body:
    """A request's bytes on their way into the upload: in whole quanta, until the last."""

    def __init__(self, arriving: Arriving, asked: Plan) -> None:
        self._arriving = arriving
        self._owner = arriving.own()
        self._plan = asked
        self._skip = asked.skip
        self._pending = bytearray()
        self.length = 0

    def feed(self, piece: bytes) -> None:
        """Raises StorageError 400 for more bytes than the object has."""
        self.length += len(piece)
        skipped = min(self._skip, len(piece))
        self._skip -= skipped
        self._pending += piece[skipped:]
        if self._plan.total is not None and self._end > self._plan.total:
            raise invalid(f"Invalid request. There are more bytes than the {self._plan.total} that were announced.")
        whole = len(self._pending) - len(self._pending) % QUANTUM
        if whole:
            self._arriving.add(self._owner, bytes(self._pending[:whole]))
            del self._pending[:whole]

    def finish(self) -> bool:
        """Whether the object is complete; if so the last bytes are in. Raises StorageError 400."""
        total = self._plan.total
        if self._plan.whole:
            if total not in (None, self._end):
                raise invalid(f"Invalid request. There were {self._end} bytes instead of the {total} announced.")
        elif total != self._end:
            return False
        self._arriving.add(self._owner, bytes(self._pending))
        self._pending.clear()
        return True

    @property
    def _end(self) -> int:
        return self._arriving.received + len(self._pending)
