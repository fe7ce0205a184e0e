"""What is wrong in a file, and where: the one shape in which a person is told."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

_SHOWN = 20
_PLAIN_KEY = re.compile(r"[A-Za-z0-9_.-]{1,64}")


@dataclass(frozen=True, slots=True)
class Finding:
    """One problem. `line` and `column` start at 1; `path` is dotted, e.g. `build.components.libs[1]`, or empty."""

    file: str
    line: int
    column: int
    path: str
    message: str

    def __str__(self) -> str:
        path = f"{self.path}: " if self.path else ""
        return one_line(f"{self.file}:{self.line}:{self.column}: {path}{self.message}")


def in_order(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """By place in the file, each once."""
    return tuple(sorted(dict.fromkeys(findings), key=lambda finding: (finding.line, finding.column, finding.path)))


def summary(findings: tuple[Finding, ...]) -> str:
    """All of them in one line; of very many, the first twenty and how many more there are."""
    shown = "; ".join(str(finding) for finding in findings[:_SHOWN])
    more = len(findings) - _SHOWN
    return f"{shown}; and {more} more" if more > 0 else shown


def join(path: str, key: str) -> str:
    """`build` and `os` make `build.os`; a key that would not fit in one line is quoted and shortened."""
    word = key if _PLAIN_KEY.fullmatch(key) else quoted(key)
    return f"{path}.{word}" if path else word


def one_line(text: str, limit: int = 500) -> str:
    """Without line breaks and control characters, which a quoted value of YAML may hold, and not too long."""
    short = text if len(text) <= limit else text[: limit - 1] + "…"
    return "".join(mark if mark.isprintable() else mark.encode("unicode_escape").decode() for mark in short)


def quoted(text: str, limit: int = 60) -> str:
    """A value as a person wrote it, in quotes, on one line and not too long."""
    return repr(text if len(text) <= limit else text[: limit - 1] + "…")
