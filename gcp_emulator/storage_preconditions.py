"""if(Source)(Meta)GenerationMatch / NotMatch: what a client wants to hold, and whether it does.

https://cloud.google.com/storage/docs/request-preconditions
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from gcp_emulator.storage_errors import NotModified, condition_not_met, invalid_parameter

_LONGEST = 19
"""Digits of a 64-bit number."""


@dataclass(frozen=True)
class Version:
    """Of what is there now; both 0 where there is nothing."""

    generation: int = 0
    metageneration: int = 0


@dataclass(frozen=True)
class Preconditions:
    generation: int | None = None
    generation_not: int | None = None
    metageneration: int | None = None
    metageneration_not: int | None = None

    @classmethod
    def of(cls, query: Mapping[str, str], kind: str = "if") -> Preconditions:
        """`kind`: `if`, or `ifSource` for the source of a copy. Raises StorageError 400 for what is no number."""
        return cls(
            whole_number(query, f"{kind}GenerationMatch"),
            whole_number(query, f"{kind}GenerationNotMatch"),
            whole_number(query, f"{kind}MetagenerationMatch"),
            whole_number(query, f"{kind}MetagenerationNotMatch"),
        )

    def check(self, now: Version) -> None:
        """Raises StorageError 412. Generation 0 means: there is nothing there."""
        if not self._as_wanted(now) or not self._unlike_unwanted(now):
            raise condition_not_met()

    def check_read(self, now: Version) -> None:
        """As `check`, but a "not match" that matches is NotModified: the client has it already."""
        if not self._as_wanted(now):
            raise condition_not_met()
        if not self._unlike_unwanted(now):
            raise NotModified

    def _as_wanted(self, now: Version) -> bool:
        return self.generation in (None, now.generation) and self.metageneration in (None, now.metageneration)

    def _unlike_unwanted(self, now: Version) -> bool:
        return self.generation_not != now.generation and self.metageneration_not != now.metageneration


def whole_number(query: Mapping[str, str], name: str) -> int | None:
    """The parameter, None where it is not given. Raises StorageError 400."""
    value = query.get(name)
    if value is None:
        return None
    if not (value.isascii() and value.isdigit() and len(value) <= _LONGEST):
        raise invalid_parameter(name, value)
    return int(value)
