"""Style sheets, scripts and pictures, under an address that changes with their bytes: browsers may keep them for ever.

The version is part of the path, so that what a script imports from beside it has the same.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

FOLDER = Path(__file__).with_name("static")
_TYPES = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml", ".png": "image/png"}
_FOR_EVER = "public, max-age=31536000, immutable"


class Assets:
    """The files of a folder without folders in it, read once: a change needs a new start."""

    def __init__(self, folder: Path = FOLDER) -> None:
        self._files = {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.suffix in _TYPES}
        seen = hashlib.sha256()
        for name, content in self._files.items():
            seen.update(f"{name}\0{len(content)}\0".encode() + content)
        self.version = seen.hexdigest()[:12]

    def url(self, name: str) -> str:
        """Where a page finds a file. Raises KeyError: there is none."""
        if name not in self._files:
            raise KeyError(name)
        return f"/static/{self.version}/{name}"

    async def answer(self, request: Request) -> Response:
        """Of another version, as a page asks for that was open while the builder was renewed: today's, not kept."""
        content = self._files.get(request.path_params["name"])
        if content is None:
            raise HTTPException(404)
        current = request.path_params["version"] == self.version
        headers = {"Cache-Control": _FOR_EVER if current else "no-cache"}
        return Response(content, headers=headers, media_type=_TYPES[Path(request.path_params["name"]).suffix])
