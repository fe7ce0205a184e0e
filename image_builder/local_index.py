"""Folders of packages as an index with hashes, for hosts that have no other.

uv works out the hashes of what lies in a find-links folder anew for each lock, which for torch takes a second; those
of an index it takes as they are. Ours are remembered. https://packaging.python.org/en/latest/specifications/simple-repository-api/
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

from packaging.utils import (
    InvalidSdistFilename,
    InvalidWheelFilename,
    canonicalize_name,
    parse_sdist_filename,
    parse_wheel_filename,
)

from image_builder.disk import write_note
from image_builder.file_hashes import FileHashes
from image_builder.work import StopFlag

_FILES_MAX = 2000
_BYTES_MAX = 16 << 30
"""What is more takes longer to be read once than it would ever save."""


def folders_alone(environ: Mapping[str, str], options: Sequence[str]) -> list[Path]:
    """The find-links folders, if packages come from nowhere else; else none, for then an index would have its say
    before them or after, where find-links and indexes are asked alike. Pure.
    """
    no_index = environ.get("UV_NO_INDEX", "").lower() in ("1", "true", "yes", "on")
    places = [place.strip() for place in environ.get("UV_FIND_LINKS", "").split(",") if place.strip()]
    if (
        not no_index
        or "--torch-backend" in options
        or any(urlsplit(place).scheme not in ("", "file") for place in places)
    ):
        return []
    return [Path(url2pathname(urlsplit(place).path) if place.startswith("file:") else place) for place in places]


@dataclass(frozen=True, slots=True)
class Hashed:
    """Where hashes of files are remembered, and a folder for indexes made of them. use: told of a file before it is
    asked for, so that it stays (see `leases.py`).
    """

    hashes: FileHashes
    folder: Path
    use: Callable[[Path], None] = lambda _: None


def write_index(folders: Sequence[Path], hashed: Hashed, flag: StopFlag) -> Path | None:
    """A folder that is an index of the packages in `folders`; None if they are too many. Blocking.

    Its name follows from what is in it, so that uv knows it again, and several builds may use it at once.
    """
    found = sorted(path.resolve() for folder in folders for path in folder.iterdir() if _package_of(path.name))
    if len(found) > _FILES_MAX or sum(path.stat().st_size for path in found) > _BYTES_MAX:
        return None
    rows = [(path, hashed.hashes.sha256(path, flag)) for path in found if path.is_file()]
    pages = dict(_pages(rows))
    key = hashlib.sha256(repr(sorted(pages.items())).encode()).hexdigest()[:32]
    index = hashed.folder / f"index-{key}"
    for name, page in pages.items():
        file = index / name / "index.html"
        hashed.use(file)
        if not file.exists():
            write_note(file, page.encode())
    return index


def _pages(rows: Sequence[tuple[Path, str]]) -> Iterator[tuple[str, str]]:
    names = {path: _package_of(path.name) for path, _ in rows}
    for name in sorted({name for name in names.values() if name}):
        links = (
            f'<a href="{escape(path.as_uri())}#sha256={digest}">{escape(path.name)}</a><br>\n'
            for path, digest in rows
            if names[path] == name
        )
        yield name, f"<!DOCTYPE html>\n<html><body>\n{''.join(links)}</body></html>\n"


def _package_of(filename: str) -> str | None:
    """The normalised name of the package that a file is of; None if it is none."""
    try:
        if filename.endswith(".whl"):
            return str(parse_wheel_filename(filename)[0])
        if filename.endswith((".tar.gz", ".zip")):
            return str(canonicalize_name(parse_sdist_filename(filename)[0]))
    except (InvalidWheelFilename, InvalidSdistFilename):
        return None
    return None
