"""A base image from the Docker Engine, for where no registry can give it: behind a firewall, or made there by hand."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

from image_builder.contract import Platform
from image_builder.engines import docker_archive
from image_builder.engines.docker_api import Connection
from image_builder.engines.engine import engine_failed
from image_builder.oci.base import TAR_TYPE, BaseImage, BaseLayer
from image_builder.oci.layout import Layout
from image_builder.oci.reference import parse
from image_builder.work import StopFlag

_CHUNK = 1 << 20


async def kept_image(engine: Connection, named: str, platform: Platform) -> Mapping[str, Any] | None:
    """As `docker image inspect`; None if the Engine does not have the image for the platform."""
    answer = await engine.call("GET", f"/images/{named}/json", 404)
    found = answer.json() if answer.is_success else {}
    return found if f"{found.get('Os')}/{found.get('Architecture')}" == platform else None


def is_made_here(found: Mapping[str, Any]) -> bool:
    """Whether it was built, imported or loaded: no registry has had a part in it."""
    return not found.get("RepoDigests")


def is_known(found: Mapping[str, Any], known: BaseImage | None, layout: Layout) -> bool:
    """Whether nothing need be saved. Blocking."""
    return known is not None and known.digest == found["Id"] and all(layout.has(row.digest) for row in known.layers)


def unpacked(archive: Path, named: str, found: Mapping[str, Any], layout: Layout, flag: StopFlag) -> BaseImage:
    """The image of an archive, with its layers in the layout as plain tars. Blocking.

    Its digest is the Engine's id of it, for there is no manifest; its reference is the name, without a digest.

    Raises:
        BuildError: `engine_failed`: it is not what the Engine says it is. DiskFull
    """
    content, layers = docker_archive.contents(archive), []
    for member, diff_id in zip(content.paths, found["RootFS"]["Layers"], strict=True):

        def keep(file: BinaryIO, digest: str = diff_id) -> int:
            return _kept(file, digest, layout, flag)

        layers.append(BaseLayer(diff_id, diff_id, docker_archive.layer_from(archive, member, keep), TAR_TYPE))
    return BaseImage(str(parse(named)), str(found["Id"]), json.loads(content.config), tuple(layers))


def _kept(file: BinaryIO, digest: str, layout: Layout, flag: StopFlag) -> int:
    """Bytes of a tar, which is in the layout now."""
    if (size := layout.size(digest)) is not None:
        return size
    with layout.writer() as writer:
        while chunk := file.read(_CHUNK):
            flag.check()
            writer.write(chunk)
        if writer.commit() != digest:
            raise engine_failed("docker", f"it saves another layer than {digest}")
        return writer.size
