"""Image references: https://github.com/distribution/reference (the grammar that docker, skopeo and podman share)."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass

from image_builder.errors import BadBuildRequest

DOCKER_HUB = "docker.io"
_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_REPOSITORY = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*")
_REGISTRY = re.compile(r"(?:[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9a-fA-F:]+\])(?::\d{1,5})?")
_TAG = re.compile(r"\w[\w.-]{0,127}", re.ASCII)
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Reference:
    """Names an image in a registry. With a digest the tag says nothing."""

    registry: str
    """As written, e.g. `docker.io`, `localhost:5000`."""
    repository: str
    tag: str | None = None
    digest: str | None = None

    @property
    def version(self) -> str:
        """What a manifest is asked for by: the digest, else the tag."""
        return self.digest or self.tag or "latest"

    @property
    def host(self) -> str:
        """Where the registry's API answers: Docker Hub's name is not its address."""
        return "registry-1.docker.io" if self.registry == DOCKER_HUB else self.registry

    @property
    def loopback(self) -> bool:
        """True if it is this machine: plain HTTP is then no risk."""
        name = self.registry.rsplit(":", 1)[0] if not self.registry.endswith("]") else self.registry
        if name == "localhost":
            return True
        try:
            return ipaddress.ip_address(name.strip("[]")).is_loopback
        except ValueError:
            return False

    def at(self, digest: str) -> Reference:
        return Reference(self.registry, self.repository, self.tag, digest)

    def __str__(self) -> str:
        tag = f":{self.tag}" if self.tag else ""
        digest = f"@{self.digest}" if self.digest else ""
        return f"{self.registry}/{self.repository}{tag}{digest}"


def parse(text: str) -> Reference:
    """`python:3.11-slim` -> docker.io/library/python:3.11-slim. Without tag and digest, the tag is `latest`.

    Raises:
        BadBuildRequest: says which part is wrong.
    """
    rest, _, digest = text.partition("@")
    registry, path = _split_registry(rest)
    repository, colon, tag = path.partition(":")
    if registry == DOCKER_HUB and "/" not in repository:
        repository = f"library/{repository}"
    wrong = _first_wrong(registry, repository, tag if colon else None, digest if "@" in text else None)
    if wrong:
        raise BadBuildRequest(
            f"{text[:200]!r} is no image reference: {wrong}",
            "Write it as registry/repository:tag, e.g. python:3.11-slim or localhost:5000/team/model:1.",
            code="bad_image_reference",
        )
    return Reference(registry, repository, tag or (None if digest else "latest"), digest or None)


def _split_registry(text: str) -> tuple[str, str]:
    first, slash, rest = text.partition("/")
    # The first part is a registry if it could not be a folder of Docker Hub: the rule of distribution/reference.
    if slash and ("." in first or ":" in first or first == "localhost" or first != first.lower()):
        return (DOCKER_HUB if first == "index.docker.io" else first), rest
    return DOCKER_HUB, text


def _first_wrong(registry: str, repository: str, tag: str | None, digest: str | None) -> str:
    if not _REGISTRY.fullmatch(registry):
        return f"the registry {registry!r} is no host name"
    if not _REPOSITORY.fullmatch(repository) or len(repository) > 255:
        return f"the repository {repository!r} may hold lowercase letters, digits and single separators . _ - /"
    if tag is not None and not _TAG.fullmatch(tag):
        return f"the tag {tag!r} may hold at most 128 letters, digits and . _ -"
    if digest is not None and not _DIGEST.fullmatch(digest):
        return f"the digest {digest!r} is not sha256: and 64 hex digits"
    return ""
