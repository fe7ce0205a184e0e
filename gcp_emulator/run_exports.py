"""Folders of this machine that stand for NFS servers, as an export table names them. Pure but for the look at a folder.

https://man7.org/linux/man-pages/man5/exports.5.html
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Export:
    server: str
    path: str
    folder: Path


def export_of(written: str) -> Export:
    """Of `SERVER:/PATH=FOLDER`. Raises ValueError."""
    where, equals, folder = written.partition("=")
    server, _, path = where.rpartition(":/")
    if not (server and equals and folder):
        raise ValueError(f"{written!r}: write SERVER:/PATH=FOLDER, e.g. 10.0.0.2:/models=models")
    return Export(server, posixpath.normpath(f"/{path}"), Path(folder).absolute())


class Exports:
    def __init__(self, table: Iterable[Export]) -> None:
        self._table = sorted(table, key=lambda export: len(export.path), reverse=True)

    def folder(self, server: str, path: str) -> Path | None:
        """What a client that mounts `SERVER:PATH` sees; None where the server exports no such folder."""
        asked = posixpath.normpath(path)
        for export in self._table:
            if export.server == server and posixpath.commonpath((export.path, asked)) == export.path:
                found = export.folder / posixpath.relpath(asked, export.path)
                return found if found.is_dir() else None
        return None
