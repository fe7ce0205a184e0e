"""What is in an image: what the build wrote down, joined with what the image itself says. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from pydantic import ConfigDict, Field, JsonValue

from image_builder.contract import Wire
from image_builder.layer_plan import LayerPlan
from image_builder.layers.index import Layer
from image_builder.lock import Lock
from image_builder.oci.software import PackageKind, Software

_BASE_NAME = "org.opencontainers.image.base.name"
_BASE_DIGEST = "org.opencontainers.image.base.digest"


class Package(Wire):
    """A python package that the image holds."""

    name: str
    version: str
    wheel: str = Field(description="File name.")
    sha256: str = Field(description="Of the wheel, 64 hex digits, as the lock has it.")
    license: str | None = Field(
        default=None, description="In the package's own words: License-Expression, else License, else classifiers."
    )


class InstalledPackage(Wire):
    """A package that the base image, apt-get or a Dockerfile put there."""

    kind: PackageKind = Field(description="deb, apk or pypi.")
    name: str
    version: str
    architecture: str = ""
    source: str = Field(default="", description="Name of the source package, where it is another.")
    where: str = Field(default="", description="Folder of a python package.")


class SystemSoftware(Wire):
    """What package managers noted in layers that the builder did not assemble itself."""

    distribution: str = Field(description="ID of os-release, e.g. debian; empty if there is none.")
    release: str = Field(description="VERSION_ID of os-release, e.g. 12.")
    libc: str | None = Field(default=None, description="e.g. `glibc 2.36`.")
    packages: tuple[InstalledPackage, ...] = Field(description="By kind and name.")


class KeptLayer(Wire):
    kind: str
    wheels: tuple[str, ...] = ()


class Contents(Wire):
    """What a build writes down beside the image. layers: by digest."""

    layers: dict[str, KeptLayer]
    packages: tuple[Package, ...] | None
    system: SystemSoftware | None = None


class LayerFacts(Wire):
    digest: str
    title: str = Field(description="What is in it, for people.")
    kind: str | None = Field(description="wheel, wheels, weights, program, config; `base`; null if it is not known.")
    size: int = Field(description="Compressed bytes.")
    wheels: tuple[str, ...] = Field(default=(), description="File names of the wheels it was made from.")


_EXAMPLE: dict[str, JsonValue] = {
    "digest": "sha256:" + "4f" * 32,
    "size": 48_210_334,
    "platform": "linux/amd64",
    "base": "docker.io/library/python@sha256:" + "9b" * 32,
    "labels": {"org.opencontainers.image.source": "common/7/42/nn_model"},
    "entrypoint": ["python", "main.py"],
    "workdir": "/workspace",
    "env": ["PATH", "PORT"],
    "ports": ["8080/tcp"],
    "layers": [{"digest": "sha256:" + "1d" * 32, "title": "program", "kind": "program", "size": 1_204, "wheels": []}],
    "packages": [],
}


class ImageFacts(Wire):
    """What is in an image. Sizes in bytes."""

    model_config = ConfigDict(json_schema_extra={"examples": [_EXAMPLE]})

    digest: str
    size: int = Field(description="Sum of the compressed layers.")
    platform: str = Field(description="`os/architecture`.")
    base: str | None = Field(description="The base image by digest; null if there is none, or it is not known.")
    labels: dict[str, str]
    entrypoint: tuple[str, ...]
    workdir: str
    env: tuple[str, ...] = Field(description="Names of the environment variables that are set, without their values.")
    ports: tuple[str, ...] = Field(description="e.g. `8080/tcp`.")
    layers: tuple[LayerFacts, ...] = Field(description="From the lowest up.")
    packages: tuple[Package, ...] | None = Field(
        description="Installed from the lock, by name; null for an image that was built before this was written down, "
        "or by a Dockerfile."
    )
    system: SystemSoftware | None = Field(
        default=None, description="What else is in it; null where there is no base, or it was never read."
    )


def describe(
    lock: Lock,
    layers: Sequence[LayerPlan],
    made: Sequence[Layer],
    licenses: Mapping[str, str | None],
    base: Software | None = None,
) -> Contents:
    """licenses: sha256 of a wheel -> its license, where known. base: what the base image holds."""
    rows = {
        blob.digest: KeptLayer(kind=layer.kind, wheels=tuple(wheel.filename for wheel in layer.wheels))
        for layer, blob in zip(layers, made, strict=True)
    }
    packages = tuple(
        Package(
            name=wheel.name,
            version=wheel.version,
            wheel=wheel.filename,
            sha256=wheel.sha256,
            license=licenses.get(wheel.sha256),
        )
        for wheel in lock.wheels
    )
    return Contents(layers=rows, packages=packages, system=system_software(base) if base else None)


def system_software(found: Software) -> SystemSoftware:
    return SystemSoftware(
        distribution=found.distribution,
        release=found.release,
        libc=str(found.libc) if found.libc else None,
        packages=tuple(InstalledPackage(**asdict(row)) for row in found.packages),
    )


def facts(digest: str, manifest: Mapping[str, Any], config: Mapping[str, Any], kept: Contents | None) -> ImageFacts:
    """manifest, config: the image's two documents. kept: what its build wrote down, if it did."""
    run = config.get("config") or {}
    labels = {str(name): str(value) for name, value in (run.get("Labels") or {}).items()}
    return ImageFacts(
        digest=digest,
        size=sum(layer["size"] for layer in manifest["layers"]),
        platform=f"{config['os']}/{config['architecture']}",
        base=_base(labels),
        labels=labels,
        entrypoint=tuple(run.get("Entrypoint") or ()) + tuple(run.get("Cmd") or ()),
        workdir=run.get("WorkingDir") or "/",
        env=tuple(row.partition("=")[0] for row in run.get("Env") or ()),
        ports=tuple(run.get("ExposedPorts") or ()),
        layers=tuple(_layers(manifest["layers"], config, kept)),
        packages=kept.packages if kept else None,
        system=kept.system if kept else None,
    )


def _layers(
    rows: Sequence[Mapping[str, Any]], config: Mapping[str, Any], kept: Contents | None
) -> Sequence[LayerFacts]:
    history = [row.get("created_by", "") for row in config.get("history") or () if not row.get("empty_layer")]
    titles = [str(title).removeprefix("cloud-deploy: ") for title in history]
    titles += [""] * (len(rows) - len(titles))
    return [_layer(row, title, kept) for row, title in zip(rows, titles, strict=False)]


def _layer(row: Mapping[str, Any], title: str, kept: Contents | None) -> LayerFacts:
    known = kept.layers.get(row["digest"]) if kept else None
    kind = known.kind if known else ("base" if kept else None)
    return LayerFacts(
        digest=row["digest"], title=title, kind=kind, size=row["size"], wheels=known.wheels if known else ()
    )


def _base(labels: Mapping[str, str]) -> str | None:
    """As image builders write it: https://github.com/opencontainers/image-spec/blob/main/annotations.md"""
    name, digest = labels.get(_BASE_NAME, ""), labels.get(_BASE_DIGEST, "")
    if not name:
        return None
    return name if "@" in name or not digest else f"{name}@{digest}"
