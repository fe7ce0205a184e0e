"""What the builder is asked for on behalf of a deployment. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePosixPath

from cloud_manager.deployment import Deployment
from cloud_manager.deployment_spec import Components, DeploymentSpec, python_requirements
from cloud_manager.names import service_id
from cloud_manager.spec_checks import is_name_of_others
from cloud_manager.targets.target import BuildPlatform
from image_builder.contract import SCRATCH, BuildRequest, Requirement

WORKSPACE = PurePosixPath("/workspace")
_INTERPRETERS = {".py": "python", ".sh": "sh"}


@dataclass(frozen=True, slots=True)
class Program:
    """source: the program's folder, relative to the shared root, e.g. `common/7/42/nn_model`.

    weights: files below `source` that shall have a layer of their own.
    lock: the requirements file that says what is installed; below `source`, or `../FILE` beside that folder.
    """

    source: str
    weights: tuple[str, ...] = ()
    lock: str | None = None


def build_request(row: Deployment, spec: DeploymentSpec, platform: BuildPlatform, program: Program) -> BuildRequest:
    """The request for the image of `spec`, fit for `platform`. The same arguments give the same request."""
    components = spec.build.components or Components()
    return BuildRequest(
        owner=str(row.key),
        source=program.source,
        platform=platform.platform,
        python=platform.python,
        accelerator=spec.build.accelerator,
        base_image=platform.base_image or spec.build.base_image,
        requirements=_requirements(row, spec),
        lock=program.lock,
        system_packages=components.custom_packages.apt,
        system_package_origins=_origins(row, "build.components.custom_packages.apt", components.custom_packages.apt),
        pre_exec=tuple(argv(words) for words in spec.deploy.pre_exec),
        entrypoint=argv(spec.deploy.entrypoint),
        workdir=str(WORKSPACE / (spec.deploy.workdir or "")),
        port=spec.container_port,
        weights=program.weights,
        engine=spec.build.engine,
        push=_push(row, spec, platform),
    )


def argv(words: tuple[str, ...]) -> tuple[str, ...]:
    """The words as they are executed: a `.py` runs with python, a `.sh` with sh, anything else by itself."""
    interpreter = _INTERPRETERS.get(PurePosixPath(words[0]).suffix) if words else None
    return (interpreter, *words) if interpreter else words


def _requirements(row: Deployment, spec: DeploymentSpec) -> tuple[Requirement, ...]:
    """Each with the place where a person wrote it, e.g. `deployment.yaml:9:13: build.components.libs[1]`."""
    return tuple(
        Requirement(text=text, origin=f"{row.origins[path]}: {path}" if path in row.origins else path)
        for text, path in python_requirements(spec)
    )


def _origins(row: Deployment, path: str, texts: tuple[str, ...]) -> tuple[str, ...]:
    places = (f"{path}[{index}]" for index in range(len(texts)))
    return tuple(f"{row.origins[place]}: {place}" if place in row.origins else place for place in places)


def _push(row: Deployment, spec: DeploymentSpec, platform: BuildPlatform) -> str | None:
    """Layers without a base image run on one machine only: there is nobody to publish them for. A target without a
    registry needs none: what can be published nowhere by its name is run all the same.
    """
    if platform.base_image == SCRATCH:
        return None
    own = f"{platform.repository}/{service_id(row.key)}" if platform.repository else None
    if own is None and spec.build.image_uri and is_name_of_others(spec.build.image_uri):
        return None
    return spec.build.image_uri or own
