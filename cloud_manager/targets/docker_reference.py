"""Names of images as a Docker Engine takes them, and the names that we give to ours. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass

from cloud_manager.deployment import Key
from cloud_manager.errors import InvalidSpec
from cloud_manager.finding import quoted
from cloud_manager.names import service_id
from image_builder.contract import ImageReference

HUB = "docker.io"
OURS = "cloud-deploy.internal/"
"""What names begin with that we give to images in an engine. No registry in the world can be called `internal`."""

# https://github.com/distribution/reference/blob/main/regexp.go
_PART = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_HOST = r"(?:[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9a-fA-F:]+\])(?::\d{1,5})?"
_HOST_NAME = re.compile(_HOST)
_PATH = re.compile(rf"{_PART}(?:/{_PART})*")
_TAG = re.compile(r"\w[\w.-]{0,127}", re.ASCII)
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Reference:
    """name: as written, with the registry if it was. version: a tag, or a digest (`sha256:…`)."""

    name: str
    version: str

    @property
    def is_digest(self) -> bool:
        return self.version.startswith("sha256:")

    @property
    def registry(self) -> str:
        """`docker.io`, `localhost:5000`, …"""
        return _split(self.name)[0]

    def __str__(self) -> str:
        return f"{self.name}{'@' if self.is_digest else ':'}{self.version}"


def parse(text: str) -> Reference:
    """With a digest the tag says nothing; without either it is `latest`.

    Raises:
        InvalidSpec: it names no image, or one that is no deployment's business.
    """
    rest, at, digest = text.partition("@")
    name, colon, tag = rest.rpartition(":")
    if not colon or "/" in tag:  # what has the colon is the registry's port
        name, tag = rest, "latest"
    version = digest if at else tag
    registry, path = _split(name)
    fits = _DIGEST.fullmatch(version) if at else _TAG.fullmatch(version)
    fits = fits and _HOST_NAME.fullmatch(registry) and _PATH.fullmatch(path)
    if not fits or len(name) > 255 or name == "sha256":
        raise InvalidSpec(
            f"build.image_uri: {quoted(text)} names no image",
            "write it as registry/repository:tag or registry/repository@sha256:…, e.g. python:3.11-slim",
            code="bad_image_reference",
        )
    if f"{name}/".startswith(OURS):
        raise InvalidSpec(
            f"build.image_uri: {quoted(text)} is a name under which built images of projects are kept",
            "name an image of a registry, or give yours a name of its own with docker tag",
            code="bad_image_reference",
        )
    return Reference(name, version)


def _split(name: str) -> tuple[str, str]:
    """Registry and path, told apart as docker does."""
    first, slash, path = name.partition("/")
    return (first, path) if slash and (first == "localhost" or set(".:") & set(first)) else (HUB, name)


@dataclass(frozen=True, slots=True)
class OwnNames:
    """The names that one installation gives. owner: `[a-z][a-z0-9-]*`; two on one engine have two."""

    owner: str

    @property
    def home(self) -> str:
        return f"{OURS}{self.owner}-images/"

    @property
    def pins(self) -> str:
        return f"{self.home}pins/"

    def built(self, image: ImageReference) -> Reference:
        """What a built image is called: by it, it is found without asking the builder anything."""
        return Reference(f"{self.home}{image.repository}", image.digest.removeprefix("sha256:"))

    def pins_of(self, key: Key) -> str:
        return f"{self.pins}{service_id(key)}"

    def pin(self, key: Key, generation: int, revision: str) -> Reference:
        """What the image is called that a project's `image_uri` was found to mean in this generation."""
        return Reference(self.pins_of(key), f"{generation}-{revision}")
