"""Which image a base's name meant when it was last asked for, as files. Blocking."""

from __future__ import annotations

import hashlib
import json
import time
from dataclasses import asdict
from pathlib import Path

from image_builder.contract import Platform
from image_builder.disk import write_whole
from image_builder.oci.base import BaseImage, BaseLayer


class BaseNotes:
    """folder: beside the trees of bases; several processes may share it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def keep(self, named: str, platform: Platform, base: BaseImage) -> None:
        """Raises DiskFull."""
        self._folder.mkdir(parents=True, exist_ok=True)
        write_whole(self._path(named, platform), json.dumps(asdict(base)).encode())

    def known(self, named: str, platform: Platform) -> BaseImage | None:
        """None if it was never asked for."""
        try:
            found = json.loads(self._path(named, platform).read_bytes())
            return BaseImage(**{**found, "layers": tuple(BaseLayer(**row) for row in found["layers"])})
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            return None  # never, or by another version

    def when(self, named: str, platform: Platform) -> str:
        """When it was last found, for people."""
        return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(self._path(named, platform).stat().st_mtime))

    def _path(self, named: str, platform: Platform) -> Path:
        return self._folder / f"named-{hashlib.sha256(f'{platform} {named}'.encode()).hexdigest()}.json"
