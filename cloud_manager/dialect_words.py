"""Single words of TANGO's dialect, and sizes, in our terms. Pure functions of one text."""

from __future__ import annotations

import math
import re

NOT_SAID = frozenset(("", "none", "null"))

ARCHITECTURES = {
    "linux/amd64": "linux/amd64",
    "amd64": "linux/amd64",
    "x86": "linux/amd64",
    "x86_64": "linux/amd64",
    "x86-64": "linux/amd64",
    "x64": "linux/amd64",
    "intel": "linux/amd64",
    "linux/arm64": "linux/arm64",
    "linux/arm64/v8": "linux/arm64",
    "arm64": "linux/arm64",
    "aarch64": "linux/arm64",
    "arm": "linux/arm64",
}
# TANGO's k8s samples name the target where the architecture belongs, and spell it both ways.
NO_ARCHITECTURE = frozenset(("kubernetes", "kuberentes", "k8s", "cloud"))

ACCELERATORS = {"cpu": "cpu", "gpu": "gpu", "cuda": "gpu", "nvidia": "gpu", "opencl": "cpu"}

_SIZE = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*(?:([kKMGT])(i?)[bB]?)?")
_CPUS = re.compile(r"([0-9]+(?:\.[0-9]+)?)(m?)")
_POWER = {"k": 1, "K": 1, "M": 2, "G": 3, "T": 4}


def memory_mib(text: str) -> int | None:
    """Memory in MiB: `8192` is MB as TANGO says (taken as MiB), `512Mi` and `8Gi` are powers of two, `8G` is 8*10^9
    bytes, rounded up: https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/quantity/
    None if it is no size."""
    found = _SIZE.fullmatch(text.strip())
    if not found or len(text) > 20:
        return None
    number, unit, binary = float(found[1]), found[2], found[3]
    if not unit:
        return math.ceil(number)
    size: int = (1024 if binary else 1000) ** _POWER[unit]
    return math.ceil(number * size / 1024**2)


def cpus(text: str) -> float | None:
    """Processors: `2`, `0.5`, `500m` (thousandths). None if it is no number of them."""
    found = _CPUS.fullmatch(text.strip())
    if not found or len(text) > 20:
        return None
    return float(found[1]) / (1000 if found[2] else 1)
