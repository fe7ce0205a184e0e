"""Partial answers: `fields=items(name,metadata/key),nextPageToken` leaves out the rest. Pure.

https://cloud.google.com/storage/docs/json_api#partial-response
"""

from __future__ import annotations

import re
from typing import Any

from gcp_emulator.storage_errors import invalid_parameter

Mask = dict[str, "Mask"]
"""A name to what is wanted of it; an empty mask wants all of it."""
_TOKEN = re.compile(r"[(),/]|[^(),/\s]+")


def parse(fields: str) -> Mask:
    """Raises StorageError 400."""
    tokens = _TOKEN.findall(fields)
    mask, rest = _list(tokens, fields)
    if rest:
        raise invalid_parameter("fields", fields)
    return mask


def only(mask: Mask, value: Any) -> Any:
    """What of a JSON value the mask wants."""
    if not mask:
        return value
    if isinstance(value, list):
        return [only(mask, item) for item in value]
    if not isinstance(value, dict):
        return value
    return {key: only(_wanted(mask, key), item) for key, item in value.items() if key in mask or "*" in mask}


def _wanted(mask: Mask, key: str) -> Mask:
    return mask[key] if key in mask else mask["*"]


def _list(tokens: list[str], fields: str) -> tuple[Mask, list[str]]:
    """`a,b/c,d(e,f)` up to a closing bracket or the end; and what is left."""
    mask: Mask = {}
    while True:
        tokens = _path(tokens, mask, fields)
        if not tokens or tokens[0] != ",":
            return mask, tokens
        tokens = tokens[1:]


def _path(tokens: list[str], mask: Mask, fields: str) -> list[str]:
    if not tokens or tokens[0] in "(),/":
        raise invalid_parameter("fields", fields)
    inner = mask.setdefault(tokens[0], {})
    tokens = tokens[1:]
    if tokens[:1] == ["/"]:
        return _path(tokens[1:], inner, fields)
    if tokens[:1] == ["("]:
        more, tokens = _list(tokens[1:], fields)
        if tokens[:1] != [")"]:
            raise invalid_parameter("fields", fields)
        inner.update(more)
        return tokens[1:]
    return tokens
