"""What every check of a request says: where, and what is wrong there."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

LABEL_KEY = re.compile(r"[a-z][a-z0-9_-]{0,62}")
LABEL_VALUE = re.compile(r"[a-z0-9_-]{0,63}")
DNS_LABEL = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
RESERVED_NAMESPACES = ("run.googleapis.com", "cloud.googleapis.com", "serving.knative.dev", "autoscaling.knative.dev")

_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40}


@dataclass(frozen=True, slots=True)
class Violation:
    """`field` is the path within the request message, e.g. `service.template.containers[0].ports`."""

    field: str
    description: str


Violations = Iterator[Violation]


def cpu_of(text: str) -> float | None:
    """`2`, `0.5`, `500m` in CPUs; None for what is no quantity."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)(m?)", text)
    return float(match[1]) / (1000 if match[2] else 1) if match else None


def memory_of(text: str) -> int | None:
    """`512Mi`, `1G` in bytes; None for what is no quantity."""
    match = re.fullmatch(r"(\d+)(|[KMGT]i?)", text.replace("k", "K"))
    return int(match[1]) * _UNITS[match[2]] if match else None


def as_gi(size: int) -> str:
    return f"{size // 2**30}Gi" if size % 2**30 == 0 else f"{size // 2**20}Mi"
