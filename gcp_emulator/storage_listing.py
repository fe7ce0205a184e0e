"""One page of a list of objects: prefix, delimiter, offsets, page tokens. Pure.

https://cloud.google.com/storage/docs/json_api/v1/objects/list
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from gcp_emulator.storage_errors import invalid_parameter
from gcp_emulator.storage_preconditions import whole_number

V = TypeVar("V")
MOST = 1000
"""Items and prefixes of a page at most, and where nothing is asked for."""


@dataclass(frozen=True)
class Asked:
    prefix: str = ""
    delimiter: str = ""
    start: str = ""
    end: str = ""
    trailing: bool = False
    """Whether an object whose name ends with the delimiter is also an item, as a folder's marker is."""
    after: str = ""
    """The last entry of the page before."""
    most: int = MOST

    @classmethod
    def of(cls, query: Mapping[str, str]) -> Asked:
        """Raises StorageError 400."""
        most = whole_number(query, "maxResults")
        return cls(
            prefix=query.get("prefix", ""),
            delimiter=query.get("delimiter", ""),
            start=query.get("startOffset", ""),
            end=query.get("endOffset", ""),
            trailing=query.get("includeTrailingDelimiter", "") == "true",
            after=_opened(query.get("pageToken", "")),
            most=min(most or MOST, MOST),
        )

    def entry(self, name: str) -> str:
        """What stands for the name in the list: itself, or the folder that it is in."""
        if not self.delimiter:
            return name
        at = name.find(self.delimiter, len(self.prefix))
        return name if at < 0 else name[: at + len(self.delimiter)]

    def includes(self, name: str) -> bool:
        return (
            name.startswith(self.prefix)
            and name >= self.start
            and (not self.end or name < self.end)
            and (not self.after or self.entry(name) > self.after)
        )


@dataclass
class Page(Generic[V]):
    items: list[V] = field(default_factory=list)
    prefixes: list[str] = field(default_factory=list)
    token: str = ""
    """Of the next page; empty: there is none."""


def page(asked: Asked, rows: Iterable[tuple[str, V]]) -> Page[V]:
    """`rows`: (name, value), sorted by name. Reads no further than the first that is for the next page."""
    found: Page[V] = Page()
    last = ""
    for name, value in rows:
        if not asked.includes(name):
            continue
        entry = asked.entry(name)
        if entry != last and len(found.items) + len(found.prefixes) >= asked.most:
            found.token = _sealed(last)
            break
        _put(found, asked, name, entry, value)
        last = entry
    return found


def _put(found: Page[V], asked: Asked, name: str, entry: str, value: V) -> None:
    folder = bool(asked.delimiter) and entry.endswith(asked.delimiter) and len(entry) > len(asked.prefix)
    if not folder:
        found.items.append(value)
        return
    if entry not in found.prefixes[-1:]:
        found.prefixes.append(entry)
    if asked.trailing and name == entry:
        found.items.append(value)


def _sealed(entry: str) -> str:
    return base64.urlsafe_b64encode(entry.encode()).decode()


def _opened(token: str) -> str:
    try:
        return base64.b64decode(token.encode(), altchars=b"-_", validate=True).decode()
    except (binascii.Error, UnicodeError):
        raise invalid_parameter("pageToken", token) from None
