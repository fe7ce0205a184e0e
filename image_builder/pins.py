"""Images that somebody wants kept, whatever the bound of the cache: what serves, and what it may be rolled back to."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

from image_builder.disk import write_whole


class Pins:
    """A small file for each owner, beside the images; all processes that share the folder see them. Blocking."""

    def __init__(self, folder: Path) -> None:
        """folder: the cache's."""
        self._folder = folder / "pins"

    def put(self, owner: str, digests: Sequence[str]) -> None:
        """What this owner wants kept from now on, instead of what it wanted before; nothing: it wants no more.

        Raises:
            OSError: the disk refuses.
        """
        path = self._folder / f"{hashlib.sha256(owner.encode()).hexdigest()[:32]}.json"
        if not digests:
            path.unlink(missing_ok=True)
            return
        self._folder.mkdir(parents=True, exist_ok=True)
        write_whole(path, json.dumps({"owner": owner, "digests": list(digests)}).encode())

    def digests(self) -> frozenset[str]:
        """Of all owners."""
        found: set[str] = set()
        for path in self._folder.glob("*.json"):
            try:
                found.update(map(str, json.loads(path.read_bytes())["digests"]))
            except (FileNotFoundError, ValueError, LookupError, TypeError):
                continue  # taken back just now; or damaged, and told anew with its owner's next deployment
        return frozenset(found)
