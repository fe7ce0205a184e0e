"""A project's own Dockerfile: the image is the engine's, how it is started is deployment.yaml's word."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from typing import Any

from image_builder.contents import Contents, KeptLayer, system_software
from image_builder.contract import ImageReference
from image_builder.engines.context import Context
from image_builder.engines.engine import Built
from image_builder.layer_plan import LayerPlan
from image_builder.layers.files import LAUNCHER
from image_builder.layers.index import Layer
from image_builder.oci.base_scan import read_layers
from image_builder.oci.image import ImageConfig, ImageLayer, config_json, descriptor, manifest_json
from image_builder.oci.layout import Layout
from image_builder.plan import BuildPlan
from image_builder.work import StopFlag


def context_of(plan: BuildPlan) -> Context:
    """Everything that `.dockerignore` leaves, weights among it. Pure."""
    files = sorted((*plan.files, *plan.weights), key=lambda file: os.fsencode(file.path))
    return Context(plan.source, files, plan.request.platform)


def dockerfile_plans(built: Built) -> list[LayerPlan]:
    """A row for each layer, the lowest first. Pure."""
    return [LayerPlan(f"Dockerfile {count}", "base", layer.digest) for count, layer in enumerate(built.layers, 1)]


def assemble_whole(plan: BuildPlan, built: Built, launchers: Sequence[Layer], layout: Layout) -> ImageReference:
    """The engine's layers under our configuration; the image then has the plan's id as its name. Blocking.

    launchers: the layer that runs `pre_exec` first, if there is something to run.
    """
    ours = [ImageLayer(row.digest, row.diff_id, row.size, "config") for row in launchers]
    lower: Mapping[str, Any] = json.loads(built.config)
    config = config_json(whole_config(plan, lower), ours, lower)
    rows = [*(ImageLayer(row.digest, row.diff_id, row.size, "Dockerfile") for row in built.layers), *ours]
    manifest = manifest_json(config, rows)
    layout.add(config)
    digest = layout.add(manifest)
    layout.name_image(plan.id, descriptor(manifest, plan.request.platform))
    return ImageReference(repository=f"builds/{plan.id}", digest=digest, size=sum(row.size for row in rows))


def whole_contents(built: Built, launchers: Sequence[Layer], layout: Layout, flag: StopFlag) -> Contents:
    """What is in the image, as its layers tell. Blocking.

    Raises:
        BuildError: code `bad_base_image`: a layer cannot be read.
    """
    paths = [layout.path(layer.digest) for layer in built.layers]
    tree = read_layers(paths, json.loads(built.config), "the image that the Dockerfile made", flag)
    ours = {layer.digest: KeptLayer(kind="config") for layer in launchers}
    return Contents(layers=ours, packages=None, system=system_software(tree.software))


def whole_config(plan: BuildPlan, lower: Mapping[str, Any]) -> ImageConfig:
    """What is laid over the configuration that the Dockerfile gave: its folder and environment stay. Pure."""
    running = lower.get("config") or {}
    return ImageConfig(
        platform=plan.request.platform,
        entrypoint=("python", f"/{LAUNCHER}/launch.py") if plan.pre_exec else plan.entrypoint,
        workdir=str(running.get("WorkingDir") or "/"),
        env={"PORT": str(plan.request.port)},
        port=plan.request.port,
        labels={
            "org.opencontainers.image.title": " ".join(plan.entrypoint)[:200],
            "org.opencontainers.image.version": plan.key[:32],
            "io.tango.cloud-deploy.key": plan.key,
            "io.tango.cloud-deploy.engine": str(plan.request.engine),
        },
    )
