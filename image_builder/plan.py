"""A request and the project's files become a plan: what goes into the image, and the key that names it all."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from image_builder.contract import BuildRequest
from image_builder.file_hashes import FileHashes


@dataclass(frozen=True, slots=True)
class SourceFile:
    """One entry of the program. `path` is relative to the source folder, with `/`.

    sha256: hex, of a file. target: what a link points to, relative to the link. mode: 0o644 or 0o755.
    """

    path: str
    kind: Literal["file", "link", "folder"]
    mode: int = 0o644
    size: int = 0
    sha256: str = ""
    target: str = ""


@dataclass(frozen=True, slots=True)
class BuildPlan:
    """Everything a build does follows from this. Equal inputs have equal keys, whoever asks.

    key: 64 hex digits over the request (without owner and origins) and all entries of files and weights.
    source: the real folder that the paths are relative to.
    """

    request: BuildRequest
    key: str
    source: Path
    files: tuple[SourceFile, ...]
    weights: tuple[SourceFile, ...]

    @property
    def id(self) -> str:
        return self.key[:32]


def make_plan(request: BuildRequest, shared_root: Path, hashes: FileHashes) -> BuildPlan:
    """Read the project and decide. Blocking (it hashes what `hashes` does not know): call it in a thread.

    Raises:
        BadBuildRequest: the request asks for what cannot be; code and words say what.
        SourceChanged: a file vanished while it was read.
    """
    raise NotImplementedError(request, shared_root, hashes)
