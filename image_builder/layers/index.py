"""What is known without work: the blob of each layer made before, and the sizes of wheels seen before."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from image_builder.disk import sweep, write_note
from image_builder.oci.layout import Layout


@dataclass(frozen=True, slots=True)
class Layer:
    """digest: of the compressed blob. diff_id: of the tar inside. size: compressed bytes."""

    digest: str
    diff_id: str
    size: int


class LayerIndex:
    """One small file for each fact, written atomically; several processes may share the folder."""

    def __init__(self, folder: Path, layout: Layout) -> None:
        self._folder = folder
        self._layout = layout

    def prepare(self) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        sweep(self._folder)

    def layer(self, key: str) -> Layer | None:
        """The layer with this content key, if its blob is there too."""
        try:
            layer = Layer(**json.loads((self._folder / f"{key}.json").read_bytes()))
            self._layout.use(self._folder / f"{key}.json")
            return layer if self._layout.size(layer.digest) == layer.size else None
        except (FileNotFoundError, ValueError, TypeError):
            return None  # unknown, or written by another version: made again

    def remember(self, key: str, layer: Layer) -> None:
        write_note(self._folder / f"{key}.json", json.dumps(asdict(layer)).encode())

    def wheel_size(self, sha256: str) -> int | None:
        """Bytes of a wheel that was fetched before; not every package index tells sizes."""
        try:
            size = int((self._folder / f"{sha256}.size").read_text())
            self._layout.use(self._folder / f"{sha256}.size")
            return size
        except (FileNotFoundError, ValueError):
            return None

    def remember_wheel_sizes(self, sizes: Mapping[str, int]) -> None:
        for sha256, size in sizes.items():
            if self.wheel_size(sha256) != size:
                write_note(self._folder / f"{sha256}.size", str(size).encode())
