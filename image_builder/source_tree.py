"""The files of a project as they lie on disk: what belongs to the program, and what may not."""

from __future__ import annotations

import errno
import os
import posixpath
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from image_builder.errors import BadBuildRequest, SourceChanged
from image_builder.file_hashes import FileHashes
from image_builder.ignore_file import IGNORE_FILE, Ignored, ignored_files
from image_builder.image_path import fault
from image_builder.real_path import open_real
from image_builder.work import StopFlag

_NEVER = frozenset({"__pycache__", ".git"})
"""Made anew by whoever needs them; never part of a program."""
_NOT_AT_TOP = frozenset({"deployment.yaml"})
"""How a program is deployed is no part of it: changing it must not change the image."""


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


def read_tree(
    root: Path, hashes: FileHashes, *, keep: frozenset[str] = frozenset(), flag: StopFlag | None = None
) -> tuple[SourceFile, ...]:
    """Every entry below `root` that belongs to the program, sorted by path; folders only where they are empty.

    Args:
        root: a real path.
        keep: paths (files or folders) that stay in although `.dockerignore` names them.

    Raises:
        BadBuildRequest: a link that leads out of `root`, a device, a socket, an unreadable file, a name that no
            image can hold.
        SourceChanged: something vanished meanwhile.
    """
    ignored = ignored_files(root)
    entries = []
    for path, found in _walk(root, ignored):
        if flag is not None:
            flag.check()
        if _kept(path, keep) or not ignored(path):
            _check_name(path)
            entries.append(_read(root, path, found, hashes, flag))
    return tuple(sorted(entries, key=lambda entry: os.fsencode(entry.path)))


def _kept(path: str, keep: frozenset[str]) -> bool:
    return any(path == wanted or path.startswith(f"{wanted}/") for wanted in keep)


def _walk(root: Path, ignored: Ignored) -> Iterator[tuple[str, os.stat_result]]:
    """(path, what it is) of all that is no folder, and of empty folders."""
    waiting: list[tuple[str, os.stat_result | None]] = [("", None)]
    while waiting:
        folder, itself = waiting.pop()
        rows = _scan(root, folder, ignored)
        if not rows and itself is not None:
            yield folder, itself
        for name, found in rows:
            path = f"{folder}/{name}" if folder else name
            if stat.S_ISDIR(found.st_mode):
                waiting.append((path, found))
            elif path not in _NOT_AT_TOP:
                yield path, found


def _scan(root: Path, folder: str, ignored: Ignored) -> list[tuple[str, os.stat_result]]:
    try:
        descriptor = open_real(root / folder, os.O_DIRECTORY)
        try:
            with os.scandir(descriptor) as found:
                return [(row.name, row.stat(follow_symlinks=False)) for row in found if row.name not in _NEVER]
        finally:
            os.close(descriptor)
    except OSError as error:
        if isinstance(error, PermissionError) and folder and ignored(folder):
            return []
        raise _trouble(folder, error) from error


def _check_name(path: str) -> None:
    if wrong := fault(path):
        raise BadBuildRequest(
            f"{path[:300]} {wrong}", f"Rename it, or name it in {IGNORE_FILE}.", code="source_bad_name"
        )


def _read(root: Path, path: str, found: os.stat_result, hashes: FileHashes, flag: StopFlag | None) -> SourceFile:
    if stat.S_ISDIR(found.st_mode):
        return SourceFile(path, "folder", mode=0o755)
    try:
        if stat.S_ISLNK(found.st_mode):
            return SourceFile(path, "link", target=_link_target(root, path))
        if not stat.S_ISREG(found.st_mode):
            raise BadBuildRequest(
                f"{path} is a device, a socket or a pipe, which an image cannot hold",
                f"Remove it from the project, or name it in {IGNORE_FILE}.",
                code="source_not_a_file",
            )
        sha256 = hashes.known(found) or hashes.sha256(root / path, flag)
        mode = 0o755 if found.st_mode & stat.S_IXUSR else 0o644
        return SourceFile(path, "file", mode, found.st_size, sha256)
    except OSError as error:
        raise _trouble(path, error) from error


def _link_target(root: Path, path: str) -> str:
    """The link's text; one that is absolute, or passes what lies around the project, is made anew from where it leads
    to, since the project lies elsewhere in the image.
    """
    link = root / path
    text = os.readlink(link)  # noqa: PTH115 - Path.readlink would normalise the text
    real = os.path.realpath(link)
    if not Path(real).is_relative_to(root):
        raise BadBuildRequest(
            f"{path} is a symbolic link to {text}, which is outside the project",
            f"Copy what it points to into the project, or name the link in {IGNORE_FILE}.",
            code="link_outside",
        )
    folder = posixpath.dirname(path)
    if not text.startswith("/") and posixpath.normpath(posixpath.join(folder, text)).split("/")[0] != "..":
        return text
    return posixpath.relpath(posixpath.relpath(real, root), folder or ".")


def _trouble(path: str, error: OSError) -> BadBuildRequest | SourceChanged:
    if isinstance(error, FileNotFoundError | NotADirectoryError) or error.errno == errno.ELOOP:
        return _vanished(path)
    return _unreadable(path, error)


def _vanished(path: str) -> SourceChanged:
    return SourceChanged(f"{path} vanished while the project was read", "It is tried again by itself.")


def _unreadable(path: str, error: OSError) -> BadBuildRequest:
    return BadBuildRequest(
        f"cannot read {path or 'the project folder'}: {error.strerror or error}",
        f"Let the image builder's user read it, or name it in {IGNORE_FILE}.",
        code="source_unreadable",
    )
