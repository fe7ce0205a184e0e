"""Which part of the twin answers for which host of Google's."""

from __future__ import annotations

import re
from typing import Literal

Backend = Literal["grpc", "rest", "storage", "registry", "tokens", "ingress", "management"]

_REGION = r"[a-z]+-[a-z]+\d+"
_MULTI_REGION = r"us|europe|asia"
# (host, what answers HTTP/2, what answers HTTP/1.1). Google's servers speak both; None: refused at the handshake.
_HOSTS: tuple[tuple[str, Backend | None, Backend | None], ...] = (
    (rf"(?:{_REGION}-)?run\.googleapis\.com", "grpc", "rest"),
    (r"cloudbuild\.googleapis\.com", "grpc", "rest"),
    (r"logging\.googleapis\.com", "grpc", "rest"),
    (r"storage\.googleapis\.com", None, "storage"),
    (rf"(?:{_REGION}|{_MULTI_REGION})-docker\.pkg\.dev", None, "registry"),
    (r"(?:oauth2|www)\.googleapis\.com", None, "tokens"),
    (r"(?:artifactregistry|cloudresourcemanager|iam|secretmanager|serviceusage)\.googleapis\.com", None, "management"),
    (r"[a-z0-9.-]+\.run\.app", None, "ingress"),
)
_GOOGLES = ("googleapis.com", "google.com", "google.internal", "googleusercontent.com", "pkg.dev", "gcr.io", "run.app")


def backends_of(host: str) -> dict[str, Backend]:
    """What answers for the host, by the protocol that TLS agrees upon (`h2`, `http/1.1`); empty: nobody does."""
    for pattern, two, one in _HOSTS:
        if re.fullmatch(pattern, host):
            return {protocol: backend for protocol, backend in (("h2", two), ("http/1.1", one)) if backend}
    return {}


def is_googles(host: str) -> bool:
    """Google Cloud's own, served here or not: what clients of the twin say to it must never reach the real one."""
    return any(host == name or host.endswith(f".{name}") for name in _GOOGLES)
