"""Which engine does what needs one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from image_builder.engines.buildah import Buildah
from image_builder.engines.cloud_build import CloudBuild
from image_builder.engines.docker import Docker
from image_builder.engines.docker_api import DockerApi
from image_builder.engines.engine import Engine, Network, Surroundings
from image_builder.errors import BuildError
from image_builder.network import registry_client
from image_builder.oci.credentials import DockerConfig
from image_builder.oci.google import GoogleCredentials
from image_builder.oci.layout import Layout
from image_builder.oci.registries import Registries
from image_builder.pip_settings import ca_bundle


def engines_of(folder: Path, environ: Mapping[str, str], network: Network) -> Callable[[Layout], tuple[Engine, ...]]:
    """What makes the engines of a builder. folder: the builder's. Nothing is asked of them yet."""
    bundle = ca_bundle(environ)
    around = Surroundings(environ, network, Path(bundle) if bundle and Path(bundle).is_file() else None)

    def registries() -> Registries:
        return Registries(lambda: registry_client(environ), GoogleCredentials(DockerConfig(environ), environ))

    def made(layout: Layout) -> tuple[Engine, ...]:
        return (
            Docker(DockerApi(environ), layout, folder / "engines" / "docker", around),
            Buildah(layout, folder / "engines" / "buildah", around),
            CloudBuild(layout, folder / "engines" / "cloud-build", environ, registries),
        )

    return made


async def choose(engines: Sequence[Engine], asked: str | None) -> Engine:
    """The engine that was asked for, else the first that can be used.

    Raises:
        BuildError: code `no_engine`, with each engine's reason.
    """
    reasons = []
    for engine in engines:
        if asked is not None and engine.name != asked:
            continue
        reason = await engine.available()
        if reason is None:
            return engine
        reasons.append(reason)
    told = "; ".join(reasons) or f"{asked} is not one of {', '.join(engine.name for engine in engines)}"
    if asked is not None:
        raise BuildError(
            f"build.engine is {asked}, which cannot be used: {told}",
            f"Install or start {asked} where the image builder runs, or name another engine.",
            code="no_engine",
        )
    raise BuildError(
        f"system packages need docker, buildah or cloud-build: {told}",
        "Install one (apt-get install buildah), or remove custom_packages.apt.",
        code="no_engine",
    )
