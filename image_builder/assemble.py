"""The last step of a build: a configuration and a manifest over layers that are there."""

from __future__ import annotations

from collections.abc import Sequence

from image_builder.contract import ImageReference
from image_builder.layer_plan import LayerPlan
from image_builder.layers.files import LAUNCHER
from image_builder.layers.index import Layer
from image_builder.layers.wheel import VENV
from image_builder.lock import Lock
from image_builder.oci.base import BaseImage
from image_builder.oci.base_scan import environment
from image_builder.oci.image import ImageConfig, ImageLayer, config_json, descriptor, manifest_json
from image_builder.oci.layout import Layout
from image_builder.oci.reference import parse
from image_builder.plan import BuildPlan

# https://github.com/opencontainers/image-spec/blob/main/annotations.md
_BASE_NAME, _BASE_DIGEST = "org.opencontainers.image.base.name", "org.opencontainers.image.base.digest"
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def assemble(
    plan: BuildPlan,
    lock: Lock,
    layers: Sequence[tuple[LayerPlan, Layer]],
    layout: Layout,
    base: BaseImage | None = None,
) -> ImageReference:
    """Configuration and manifest over layers that are in the layout; the image then has the plan's id as its name.

    Args:
        layers: those on top of the base, whose own need not be in the layout.
    """
    rows = [ImageLayer(blob.digest, blob.diff_id, blob.size, layer.name) for layer, blob in layers]
    config = config_json(image_config(plan, lock.digest, base), rows, base.config if base else None)
    rows = [*_of_base(base), *rows]
    manifest = manifest_json(config, rows)
    layout.add(config)
    digest = layout.add(manifest)
    layout.name_image(plan.id, descriptor(manifest, plan.request.platform))
    return ImageReference(repository=f"builds/{plan.id}", digest=digest, size=sum(row.size for row in rows))


def _of_base(base: BaseImage | None) -> list[ImageLayer]:
    rows = base.layers if base else ()
    return [ImageLayer(row.digest, row.diff_id, row.size, "base", row.media_type) for row in rows]


def image_config(plan: BuildPlan, lock_digest: str, base: BaseImage | None = None) -> ImageConfig:
    """How the image runs. With something to run before, the launcher is the entrypoint. Pure."""
    launcher = ("python", f"/{LAUNCHER}/launch.py")
    return ImageConfig(
        platform=plan.request.platform,
        entrypoint=launcher if plan.pre_exec else plan.entrypoint,
        workdir=plan.workdir,
        env={
            "PATH": f"/{VENV}/bin:{environment(base.config).get('PATH', _PATH) if base else _PATH}",
            "VIRTUAL_ENV": f"/{VENV}",
            "PYTHONUNBUFFERED": "1",
            "PORT": str(plan.request.port),
        },
        port=plan.request.port,
        labels={
            **_base_labels(base),
            "org.opencontainers.image.title": " ".join(plan.entrypoint)[:200],
            "org.opencontainers.image.version": plan.key[:32],
            "io.tango.cloud-deploy.key": plan.key,
            "io.tango.cloud-deploy.python": plan.request.python,
            "io.tango.cloud-deploy.lock-digest": f"sha256:{lock_digest}",
        },
    )


def _base_labels(base: BaseImage | None) -> dict[str, str]:
    """One that came from an engine has no digest in any registry."""
    if base is None:
        return {}
    digest = parse(base.reference).digest
    return {_BASE_NAME: base.reference} | ({_BASE_DIGEST: digest} if digest else {})
