"""What a base image means for the layers on top of it. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from image_builder.errors import BuildError
from image_builder.layers.files import LAUNCHER
from image_builder.layers.wheel import VENV
from image_builder.lock import UNKNOWN_BASE
from image_builder.oci.base import BaseImage
from image_builder.oci.base_tree import BaseTree, Underlay
from image_builder.oci.software import Libc


@dataclass(frozen=True, slots=True)
class Foundation:
    """A base that fits. interpreter: absolute path of its python X.Y."""

    base: BaseImage
    tree: BaseTree
    interpreter: str

    @property
    def config(self) -> Mapping[str, Any]:
        return self.base.config

    @property
    def libc(self) -> Libc:
        """The base's C library; where it is not known, one that nearly every base has."""
        return self.tree.software.libc or UNKNOWN_BASE

    def under(self, kind: str, workdir: str) -> Underlay:
        """What of the base matters to a layer of a kind. workdir: absolute."""
        if kind in ("program", "weights"):
            return self.tree.underlay.below(workdir.strip("/"))
        ours = [self.tree.underlay.below(top) for top in ((VENV, LAUNCHER) if kind == "config" else (VENV,))]
        return Underlay(
            {path: target for one in ours for path, target in one.links.items()},
            {path: folder for one in ours for path, folder in one.folders.items()},
        )


def founded(base: BaseImage, tree: BaseTree, python: str) -> Foundation:
    """Judge a base.

    Raises:
        BuildError: code `python_not_in_base`, or `base_has_venv`.
    """
    if python not in tree.pythons:
        found = ", ".join(f"{version} ({path})" for version, path in sorted(tree.pythons.items())) or "none at all"
        raise BuildError(
            f"the base image {base.reference} has no python {python} on its PATH; found: {found}",
            f"Set build.base_image to an image with python {python}, or build.python to one that it has.",
            code="python_not_in_base",
        )
    if tree.own_venv:
        raise BuildError(
            f"the base image {base.reference} has a /{VENV} of its own, where the packages are to live",
            f"Name a base image without /{VENV}.",
            code="base_has_venv",
        )
    return Foundation(base, tree, tree.pythons[python])
