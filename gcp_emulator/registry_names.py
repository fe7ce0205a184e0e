"""Names in Artifact Registry: https://cloud.google.com/artifact-registry/docs/docker/names"""

from __future__ import annotations

import re
from dataclasses import dataclass

DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
_PART = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_NAME = re.compile(rf"(?P<project>{_PART})/(?P<repository>{_PART})/(?P<image>{_PART}(?:/{_PART})*)")


@dataclass(frozen=True)
class ImageName:
    location: str
    project: str
    repository: str
    image: str

    def __str__(self) -> str:
        """As in the path of a request."""
        return f"{self.project}/{self.repository}/{self.image}"

    @property
    def key(self) -> str:
        """Of rows in the state; `@` is in no name."""
        return f"{self.location}/{self}@"

    @property
    def resource(self) -> str:
        """Of the repository, as Google's messages name it."""
        return f"projects/{self.project}/locations/{self.location}/repositories/{self.repository}"


def parse(host: str, name: str) -> ImageName | None:
    """host: `REGION-docker.pkg.dev`, with or without a port. None for what is no name of an image."""
    match = _NAME.fullmatch(name)
    location = host.partition(":")[0].removesuffix("-docker.pkg.dev")
    return ImageName(location, **match.groupdict()) if match and len(name) <= 255 else None
