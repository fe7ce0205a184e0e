"""Paths that an image can hold: what every tool that unpacks one can write, and none takes for an order. Pure."""

from __future__ import annotations

import os

_NAME_MAX, _PATH_MAX = 255, 3072
"""Bytes of a part and of the whole. Linux takes 4096 of the whole, of which tools that unpack need some themselves."""
_WHITEOUT = ".wh."


def fault(path: str) -> str | None:
    """Why no image can hold `path`, a relative one with `/`, as the end of a sentence that begins with it; or None.

    A file named `.wh.x` would delete `x` of lower layers:
    https://github.com/opencontainers/image-spec/blob/main/layer.md#whiteouts
    """
    parts = path.split("/")
    if "\0" in path or "" in parts or "." in parts or ".." in parts:
        return "is no path of a file"
    if _WHITEOUT in path and any(part.startswith(_WHITEOUT) for part in parts):
        return f"has a name that begins with {_WHITEOUT}, which in an image means that something is deleted"
    if len(path) * 4 > _NAME_MAX:
        raw = os.fsencode(path)
        if len(raw) > _PATH_MAX or max(map(len, raw.split(b"/"))) > _NAME_MAX:
            return f"is too long for an image: a name may have {_NAME_MAX} bytes, a path {_PATH_MAX}"
    return None
