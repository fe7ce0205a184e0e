"""One layer laid over a folder: later files win, whiteouts delete, nothing reaches outside."""

from __future__ import annotations

import os
import shutil
import tarfile
from pathlib import Path, PurePosixPath

_WHITEOUT = ".wh."  # https://github.com/opencontainers/image-spec/blob/main/layer.md#whiteouts
_OPAQUE = ".wh..wh..opq"


class BadLayer(Exception):
    pass


def lay_over(blob: Path, media_type: str, root: Path) -> None:
    """Unpack a tar layer (plain or gzip) over `root`. Blocking. Raises BadLayer, OSError."""
    if not media_type.endswith(("tar", "gzip")):
        raise BadLayer(f"a layer has the media type {media_type}; gcp_emulator unpacks tar and gzip")
    root.mkdir(exist_ok=True)
    try:
        with tarfile.open(blob, "r:*") as tar:
            tar.extraction_filter = lambda member, _: member  # checked below; python 3.11.2 has no filters
            for member in tar:
                _place(tar, member, root)
    except tarfile.TarError as error:
        raise BadLayer(f"a layer cannot be unpacked: {error}") from error


def _place(tar: tarfile.TarFile, member: tarfile.TarInfo, root: Path) -> None:
    path = PurePosixPath(member.name)
    if path.is_absolute() or ".." in path.parts:
        raise BadLayer(f"a layer holds the path {member.name!r}")
    if not path.parts:
        return  # the root itself, which is there
    target = root.joinpath(*path.parts)
    if not Path(os.path.realpath(target.parent)).is_relative_to(os.path.realpath(root)):
        raise BadLayer(f"a layer holds {member.name!r} behind a link")
    if path.name == _OPAQUE:
        for child in target.parent.iterdir():
            _remove(child)
    elif path.name.startswith(_WHITEOUT):
        _remove(target.with_name(path.name.removeprefix(_WHITEOUT)))
    elif member.isdir() and target.is_dir() and not target.is_symlink():
        return
    elif member.isreg() or member.isdir() or member.issym() or member.islnk():
        _extract(tar, member, root, target)


def _extract(tar: tarfile.TarFile, member: tarfile.TarInfo, root: Path, target: Path) -> None:
    if target.is_symlink() or target.exists():
        _remove(target)
    if member.islnk() and not Path(os.path.realpath(root / member.linkname)).is_relative_to(os.path.realpath(root)):
        raise BadLayer(f"a layer holds the link {member.name!r} to {member.linkname!r}")
    if member.isdir() or member.isreg():
        member.mode |= 0o700 if member.isdir() else 0o600
        member.mode &= 0o777  # no set-user-id programs on this machine
    tar.extract(member, root, set_attrs=True, numeric_owner=False)


def _remove(path: Path) -> None:
    if path.is_symlink() or path.is_file():
        path.unlink()
    elif path.exists():
        shutil.rmtree(path)
