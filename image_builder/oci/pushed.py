"""Where layers were published before: another repository of that registry can then take them over without a byte."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from pathlib import Path

from image_builder.disk import write_note
from image_builder.layers.index import Layer
from image_builder.oci.reference import Reference


class Pushed:
    """One small file for each blob and registry; what it says may be out of date. Blocking."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def repository(self, registry: str, digest: str) -> str | None:
        """A repository of the registry that had the blob when we last looked."""
        try:
            return self._path(registry, digest).read_text() or None
        except FileNotFoundError:
            return None

    def remember(self, reference: Reference, digest: str, *, anew: bool = False) -> None:
        """anew: what was known before may be wrong."""
        if anew or self.repository(reference.registry, digest) is None:
            path = self._path(reference.registry, digest)
            path.parent.mkdir(parents=True, exist_ok=True)
            write_note(path, reference.repository.encode())

    def layer(self, home: str, key: str) -> Layer | None:
        """The layer with a content key that a repository (`registry/name`) had when we last looked."""
        try:
            return Layer(**json.loads(self._path(home, f"{key}.layer").read_bytes()))
        except (FileNotFoundError, ValueError, TypeError):
            return None

    def remember_layer(self, home: str, key: str, layer: Layer) -> None:
        path = self._path(home, f"{key}.layer")
        path.parent.mkdir(parents=True, exist_ok=True)
        write_note(path, json.dumps(asdict(layer)).encode())

    def knows(self, home: str) -> bool:
        """Whether any layer of the repository is remembered."""
        return self._path(home, "").is_dir()

    def _path(self, where: str, digest: str) -> Path:
        name = hashlib.sha256(where.encode()).hexdigest()[:16]
        return self._folder / name / digest.removeprefix("sha256:")
