"""What builds write down of their images, and the license of each wheel, as files. Blocking."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable
from pathlib import Path

from pydantic import ValidationError

from image_builder.contents import Contents, ImageFacts, facts
from image_builder.disk import sweep, write_note, write_whole
from image_builder.errors import BuildError, ImageNotFound
from image_builder.layers.wheel import license_of
from image_builder.lock import PinnedWheel
from image_builder.oci.layout import Layout

_log = logging.getLogger(__name__)


class ContentsStore:
    """`<manifest digest>.json` and `<wheel digest>.license`, beside a layout. What is visible is whole; several
    processes may share the folder."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._folder = layout.folder.parent / "contents"

    def prepare(self) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        sweep(self._folder)

    def keep(self, digest: str, contents: Contents) -> None:
        """digest: of the manifest. Raises DiskFull."""
        data = contents.model_dump_json().encode()
        path = self._path(digest)
        if not path.exists() or path.read_bytes() != data:
            write_whole(path, data)

    def load(self, digest: str) -> Contents | None:
        """None for an image that was made before, or elsewhere."""
        path = self._path(digest)
        try:
            return Contents.model_validate_json(path.read_bytes())
        except FileNotFoundError:
            return None
        except ValidationError as error:
            _log.warning("ignoring the unreadable %s: %s", path, str(error).replace("\n", " "))
            return None

    def facts(self, digest: str) -> ImageFacts:
        """Raises ImageNotFound: no image of this builder has this digest."""
        if digest not in self._layout.images().values():
            raise _unknown(digest)
        try:
            manifest = json.loads(self._layout.path(digest).read_bytes())
            config = json.loads(self._layout.path(manifest["config"]["digest"]).read_bytes())
        except FileNotFoundError as error:
            raise _unknown(digest) from error
        return facts(digest, manifest, config, self.load(digest))

    def licenses(self, wheels: Iterable[PinnedWheel], path: Callable[[PinnedWheel], Path]) -> dict[str, str | None]:
        """sha256 -> license, read from the wheels that are here and remembered for when they are not."""
        return {wheel.sha256: self._license(wheel, path) for wheel in wheels}

    def _license(self, wheel: PinnedWheel, path: Callable[[PinnedWheel], Path]) -> str | None:
        note = self._folder / f"{wheel.sha256}.license"
        try:
            text = note.read_text(encoding="utf-8")
            if text.endswith("\n"):
                return text[:-1] or None
        except FileNotFoundError:
            pass  # never looked up before
        try:
            found = license_of(path(wheel))
        except (FileNotFoundError, BuildError):  # cleared, and its layer was there; or older than our checks
            return None
        write_note(note, f"{found or ''}\n".encode())
        return found

    def _path(self, digest: str) -> Path:
        return self._folder / f"{self._layout.path(digest).name}.json"


def _unknown(digest: str) -> ImageNotFound:
    return ImageNotFound(f"there is no image {digest[:100]!r} here", "See GET /images for those there are.")
