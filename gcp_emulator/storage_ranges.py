"""Which bytes a client asks for (Range), and which it says it sends (Content-Range).

https://www.rfc-editor.org/rfc/rfc9110#name-range, https://cloud.google.com/storage/docs/performing-resumable-uploads
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from gcp_emulator.storage_errors import RangeNotSatisfiable, invalid

_RANGE = re.compile(r"bytes=(\d{0,19})-(\d{0,19})", re.ASCII)
_SENT = re.compile(r"bytes (?:(\d{1,19})-(\d{1,19})|\*)/(\d{1,19}|\*)", re.ASCII)


def wanted(header: str | None, size: int) -> tuple[int, int] | None:
    """First byte and the one after the last; None: the whole object.

    Several ranges and what cannot be read are as no header. Raises RangeNotSatisfiable.
    """
    found = _RANGE.fullmatch((header or "").strip())
    if found is None or found.group(0) == "bytes=-":
        return None
    first, last = found.groups()
    if not first:
        start, end = max(0, size - int(last)), size
    else:
        start, end = int(first), min(size, int(last) + 1) if last else size
        if last and int(last) < start:
            return None
    if start >= size:
        raise RangeNotSatisfiable(size)
    return start, end


@dataclass(frozen=True)
class Sent:
    """One request of a resumable upload. `first` None: it has no bytes, and asks how far the upload is."""

    first: int | None = None
    last: int | None = None
    total: int | None = None


def sent(header: str) -> Sent:
    """Of `bytes 0-99/1000`, `bytes 0-99/*`, `bytes */1000`, `bytes */*`. Raises StorageError 400."""
    found = _SENT.fullmatch(header.strip())
    if found is None:
        raise invalid(f"Failed to parse Content-Range header: {header}")
    first, last, total = found.groups()
    parsed = Sent(_number(first), _number(last), _number(total))
    if parsed.first is not None and parsed.last is not None and parsed.last < parsed.first:
        raise invalid(f"Failed to parse Content-Range header: {header}")
    if parsed.total is not None and parsed.last is not None and parsed.last >= parsed.total:
        raise invalid(f"Invalid request. The last byte of Content-Range '{header}' lies after the object's end.")
    return parsed


def _number(text: str | None) -> int | None:
    return int(text) if text is not None and text != "*" else None
