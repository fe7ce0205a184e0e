"""The files of a project as they lie on disk: what belongs to the program, and what may not."""

from __future__ import annotations

import os
import posixpath
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pathspec

from image_builder.errors import BadBuildRequest, SourceChanged
from image_builder.file_hashes import FileHashes
from image_builder.work import StopFlag

IGNORE_FILE = ".dockerignore"
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
        BadBuildRequest: a link that leads out of `root`, a device, a socket, an unreadable file.
        SourceChanged: something vanished meanwhile.
    """
    ignored = ignore_rules(_ignore_lines(root))
    entries = []
    for path, entry in sorted(_walk(root), key=lambda row: os.fsencode(row[0])):
        if flag is not None:
            flag.check()
        if _kept(path, keep) or not ignored.match_file(path):
            entries.append(_read(root, path, entry, hashes, flag))
    return tuple(entries)


def ignore_rules(lines: list[str]) -> pathspec.PathSpec[Any]:
    """The rules of a `.dockerignore`: https://docs.docker.com/build/concepts/context/#dockerignore-files

    As there: patterns start at the top of the project, the last one that matches decides, `!` takes back in.
    Unlike there: `[!a]` negates as `[^a]` does, and a pattern may not climb out of the project and back in.
    """
    return pathspec.PathSpec.from_lines("gitignore", [_anchored(line) for line in lines])


def _anchored(line: str) -> str:
    text = line.strip()
    if not text or text.startswith("#"):
        return ""
    negated, text = text.startswith("!"), text.removeprefix("!").strip()
    cleaned = posixpath.normpath(text).lstrip("/")
    if cleaned in ("", "."):
        return ""
    return f"{'!' if negated else ''}/{cleaned}"


def _ignore_lines(root: Path) -> list[str]:
    try:
        return (root / IGNORE_FILE).read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return []
    except (OSError, UnicodeDecodeError) as error:
        raise BadBuildRequest(
            f"cannot read {IGNORE_FILE}: {error}", "Make it a readable UTF-8 text file, or remove it."
        ) from error


def _kept(path: str, keep: frozenset[str]) -> bool:
    return any(path == wanted or path.startswith(f"{wanted}/") for wanted in keep)


def _walk(root: Path) -> Iterator[tuple[str, os.DirEntry[str]]]:
    """(path, entry) of all that is no folder, and of empty folders."""
    waiting: list[tuple[str, os.DirEntry[str] | None]] = [("", None)]
    while waiting:
        folder, itself = waiting.pop()
        rows = [row for row in _scan(root, folder) if row.name not in _NEVER]
        if not rows and itself is not None:
            yield folder, itself
        for entry in rows:
            path = f"{folder}/{entry.name}" if folder else entry.name
            if entry.is_dir(follow_symlinks=False):
                waiting.append((path, entry))
            elif path not in _NOT_AT_TOP:
                yield path, entry


def _scan(root: Path, folder: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(root / folder) as found:
            return list(found)
    except FileNotFoundError as error:
        raise _vanished(folder) from error
    except OSError as error:
        raise _unreadable(folder, error) from error


def _read(root: Path, path: str, entry: os.DirEntry[str], hashes: FileHashes, flag: StopFlag | None) -> SourceFile:
    try:
        found = entry.stat(follow_symlinks=False)
        if stat.S_ISDIR(found.st_mode):
            return SourceFile(path, "folder", mode=0o755)
        if stat.S_ISLNK(found.st_mode):
            return SourceFile(path, "link", target=_link_target(root, path))
        if not stat.S_ISREG(found.st_mode):
            raise BadBuildRequest(
                f"{path} is a device, a socket or a pipe, which an image cannot hold",
                f"Remove it from the project, or name it in {IGNORE_FILE}.",
                code="source_not_a_file",
            )
        mode = 0o755 if found.st_mode & stat.S_IXUSR else 0o644
        return SourceFile(path, "file", mode, found.st_size, hashes.sha256(root / path, flag))
    except FileNotFoundError as error:
        raise _vanished(path) from error
    except OSError as error:
        raise _unreadable(path, error) from error


def _link_target(root: Path, path: str) -> str:
    """The link's text; an absolute one is made relative, since the project lies elsewhere in the image."""
    link = root / path
    text = os.readlink(link)  # noqa: PTH115 - Path.readlink would normalise the text
    real = os.path.realpath(link)
    if not Path(real).is_relative_to(root):
        raise BadBuildRequest(
            f"{path} is a symbolic link to {text}, which is outside the project",
            f"Copy what it points to into the project, or name the link in {IGNORE_FILE}.",
            code="link_outside",
        )
    if not text.startswith("/"):
        return text
    return posixpath.relpath(posixpath.relpath(real, root), posixpath.dirname(path) or ".")


def _vanished(path: str) -> SourceChanged:
    return SourceChanged(f"{path} vanished while the project was read", "It is tried again by itself.")


def _unreadable(path: str, error: OSError) -> BadBuildRequest:
    return BadBuildRequest(
        f"cannot read {path or 'the project folder'}: {error.strerror or error}",
        f"Let the image builder's user read it, or name it in {IGNORE_FILE}.",
        code="source_unreadable",
    )
