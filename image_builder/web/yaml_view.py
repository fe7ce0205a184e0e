"""deployment.yaml line by line, each with what is to be said of it. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from image_builder.web.manager_models import Finding, ProjectFile
from image_builder.web.masking import COVER, covered, hidden_values


@dataclass(frozen=True, slots=True)
class Remark:
    """kind: `wrong` keeps it from starting; `ignored` means nothing to the target."""

    kind: Literal["wrong", "ignored"]
    column: int
    path: str
    message: str


@dataclass(frozen=True, slots=True)
class Line:
    number: int
    text: str
    remarks: tuple[Remark, ...]


def lines_of(file: ProjectFile, *, cover: bool = True) -> tuple[Line, ...]:
    """What is said of a line that is not there goes to the last one.

    Args:
        cover: hide what may be a secret, also where a finding quotes it.
    """
    shown = (covered(file.text) if cover else file.text).split("\n") or [""]
    hidden = hidden_values(file.text) if cover else frozenset()
    remarks: dict[int, list[Remark]] = {}
    for kind, findings in (("wrong", file.verdict.findings), ("ignored", file.verdict.ignored)):
        for finding in findings:
            line = min(max(finding.line, 1), len(shown))
            remarks.setdefault(line, []).append(_remark("wrong" if kind == "wrong" else "ignored", finding, hidden))
    return tuple(Line(number, text, tuple(remarks.get(number, ()))) for number, text in enumerate(shown, 1))


def _remark(kind: Literal["wrong", "ignored"], finding: Finding, hidden: frozenset[str]) -> Remark:
    message = finding.message
    for value in hidden:
        message = message.replace(value, COVER)
    return Remark(kind, finding.column, finding.path, message)
