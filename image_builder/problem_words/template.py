"""A sentence with named holes, e.g. `project {project} was never started`. Pure.

Recognising is a walk from left to right, without regular expressions: each fixed part is looked for behind the one
before, so the time grows with the length of the text and never with its shape.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from string import Formatter


@dataclass(frozen=True, slots=True)
class Template:
    """`fixed` has one part more than there are `holes`; the first and the last may be empty."""

    fixed: tuple[str, ...]
    holes: tuple[str, ...]

    @classmethod
    def of(cls, text: str) -> Template:
        """Of the notation of `str.format`: a brace that is meant is doubled.

        Raises:
            ValueError: a hole has no name, or stands next to another, so that nothing tells where it ends.
        """
        fixed, holes = [""], list[str]()
        for literal, hole, _, _ in Formatter().parse(text):
            fixed[-1] += literal
            if hole is None:
                continue
            if not hole.isidentifier() or (holes and not fixed[-1]):
                raise ValueError(f"a hole without a name, or next to another, in {text!r}")
            holes.append(hole)
            fixed.append("")
        return cls(tuple(fixed), tuple(holes))

    @property
    def weight(self) -> int:
        """How much of a sentence it fixes."""
        return sum(map(len, self.fixed))

    @property
    def longest(self) -> str:
        return max(self.fixed, key=len)

    def match(self, text: str) -> dict[str, str] | None:
        """What stands in the holes, each as short as can be from the left; None if the text is another sentence."""
        first, last = self.fixed[0], self.fixed[-1]
        if not self.holes:
            return {} if text == first else None
        end = len(text) - len(last)
        if len(first) > end or not (text.startswith(first) and text.endswith(last)):
            return None
        found: dict[str, str] = {}
        at = len(first)
        for hole, part in zip(self.holes, self.fixed[1:-1], strict=False):
            next_at = text.find(part, at, end)
            if next_at < 0:
                return None
            found[hole] = text[at:next_at]
            at = next_at + len(part)
        return {**found, self.holes[-1]: text[at:end]}

    def fill(self, values: Mapping[str, str]) -> str:
        parts = [self.fixed[0]]
        for hole, part in zip(self.holes, self.fixed[1:], strict=True):
            parts += (values[hole], part)
        return "".join(parts)
