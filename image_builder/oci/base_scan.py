"""The tree of a base image, read once from its layers and kept by the image's digest. Blocking."""

from __future__ import annotations

import json
import posixpath
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from image_builder.disk import write_whole
from image_builder.errors import BuildError
from image_builder.oci.base import BaseImage
from image_builder.oci.base_tree import BaseTree, Folder, Member, Underlay, read_tree
from image_builder.oci.compression import BROKEN, open_tar
from image_builder.oci.layout import Layout
from image_builder.oci.software import NOTHING_KNOWN, Installed, Libc, Software, most_of, read_file
from image_builder.work import StopFlag

_PIECE = 1 << 18


def known_tree(base: BaseImage, folder: Path) -> BaseTree | None:
    """What an earlier scan found, or None."""
    try:
        return _from_json(json.loads(_kept(base, folder).read_bytes()))
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None  # never scanned, or by another version


def scan(base: BaseImage, layout: Layout, folder: Path, flag: StopFlag) -> BaseTree:
    """Read the headers of all layers, which are in the layout; keep the result in `folder`.

    Raises:
        BuildError: code `bad_base_image`: a layer is no tar, or its links lead in a circle.
    """
    paths = [layout.path(layer.digest) for layer in base.layers]
    tree = read_layers(paths, base.config, f"the base image {base.reference}", flag)
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(_kept(base, folder), json.dumps(asdict(tree)).encode())
    return tree


def read_layers(paths: Sequence[Path], config: Mapping[str, Any], named: str, flag: StopFlag) -> BaseTree:
    """The tree of layers, the lowest first. named: what they are layers of, in words.

    Raises:
        BuildError: as `scan`.
    """
    try:
        return read_tree((_members(path, flag) for path in paths), environment(config).get("PATH"), "opt/venv")
    except BROKEN as error:
        raise BuildError(
            f"a layer of {named} cannot be read: {error}",
            "Name another base image, or tell the keepers of this one.",
            code="bad_base_image",
        ) from error


def environment(config: Mapping[str, Any]) -> dict[str, str]:
    """`Env` of an image configuration by name."""
    rows = (config.get("config") or {}).get("Env") or []
    return {name: value for name, _, value in (row.partition("=") for row in rows)}


def _members(path: Path, flag: StopFlag) -> Iterator[Member]:
    with open_tar(path) as plain, tarfile.open(fileobj=plain, mode="r|", bufsize=_PIECE) as tar:
        for info in tar:
            flag.check()
            yield Member(info, _software(tar, info))


def _software(tar: tarfile.TarFile, info: tarfile.TarInfo) -> Software:
    where = posixpath.normpath(f"/{info.name}").strip("/")
    size = most_of(where) if info.isreg() else 0
    file = tar.extractfile(info) if size else None
    return read_file(where, file.read(size)) if file else NOTHING_KNOWN


def _kept(base: BaseImage, folder: Path) -> Path:
    return folder / f"{base.digest.removeprefix('sha256:')}.json"


def _from_json(found: dict[str, Any]) -> BaseTree:
    under = found["underlay"]
    folders = {path: Folder(**row) for path, row in under["folders"].items()}
    return BaseTree(
        Underlay(under["links"], folders), found["pythons"], found["own_venv"], _software_of(found["software"])
    )


def _software_of(found: dict[str, Any]) -> Software:
    libc = Libc(**found["libc"]) if found["libc"] else None
    return Software(found["distribution"], found["release"], libc, tuple(Installed(**row) for row in found["packages"]))
