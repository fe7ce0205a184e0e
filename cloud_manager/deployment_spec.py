"""The schema of deployment.yaml, after TANGO's dialect has been translated (see `dialect.py`).

Words follow Cloud Run's where TANGO has none. The JSON Schema that editors use is generated from these models.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from image_builder.contract import Accelerator

Port = Annotated[int, Field(ge=1, le=65535)]
EnvName = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$", max_length=255)]
ProjectPath = Annotated[
    str, Field(min_length=1, max_length=1024, description="A file of the project, relative to its program folder.")
]
# https://www.debian.org/doc/debian-policy/ch-controlfields.html#source (names) and #version
DEBIAN_PACKAGE = r"^[a-z0-9][a-z0-9+.-]+(=[A-Za-z0-9.+:~][A-Za-z0-9.+:~-]*)?$"
DebianPackage = Annotated[
    str, Field(pattern=DEBIAN_PACKAGE, max_length=200, description="An apt package, `name` or `name=version`.")
]
_VERSIONED_NAME = r"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,254}(:(latest|[0-9]{1,9}))?$"
SecretName = Annotated[str, Field(pattern=_VERSIONED_NAME, description="`name` or `name:version`.")]


def _requirement(text: object) -> object:
    if isinstance(text, str):
        if len(text) > 1000:
            raise ValueError("not a python requirement: longer than 1000 characters")
        try:
            Requirement(text)
        except InvalidRequirement as error:
            reason = str(error).splitlines()[0]
            raise ValueError(f"not a python requirement: {reason}; write e.g. flask>=3") from error
    return text


PythonRequirement = Annotated[str, BeforeValidator(_requirement), Field(description="A PEP 508 requirement.")]


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class CustomPackages(Section):
    apt: tuple[DebianPackage, ...] = Field(
        default=(), description="Debian packages; the code generator spells it `atp`."
    )
    pypi: tuple[PythonRequirement, ...] = ()


class Components(Section):
    engine: str | None = Field(default=None, description="The inference engine, e.g. `pytorch`.")
    libs: tuple[PythonRequirement, ...] = Field(
        default=(), description="`python==X.Y` picks the interpreter, the rest are requirements."
    )
    custom_packages: CustomPackages = CustomPackages()


class Build(Section):
    architecture: Literal["linux/amd64", "linux/arm64"] = "linux/amd64"
    accelerator: Accelerator = "cpu"
    os: str | None = Field(
        default=None, description="A distribution. Without `base_image` the official python:X.Y-slim serves."
    )
    image_uri: str | None = Field(
        default=None, description="Where the image goes; without `components`, the prebuilt image to use."
    )
    base_image: str | None = Field(default=None, description="What the layers are put on; `scratch` for layers only.")
    engine: Literal["docker", "buildah", "cloud-build"] | None = Field(
        default=None, description="Build the whole image with this engine."
    )
    lock: ProjectPath | None = Field(
        default=None, description="A requirements file with hashes that replaces the resolver's own lock."
    )
    components: Components | None = None


class Network(Section):
    service_host_ip: str | None = Field(default=None, description="Address on which the host publishes the service.")
    service_host_port: Port | None = Field(default=None, description="Port on which the host publishes the service.")
    service_container_port: Port | None = Field(
        default=None, description="Port on which the program listens, given to it as PORT."
    )


class Resources(Section):
    cpu: Annotated[float, Field(gt=0, le=224)] | None = Field(default=None, description="Processors.")
    memory: Annotated[int, Field(ge=1)] | None = Field(
        default=None, description="MiB, once read; written in MB or as `8Gi`."
    )
    gpu: Annotated[int, Field(ge=0, le=16)] | None = None
    gpu_type: str | None = Field(default=None, description="e.g. `nvidia-l4`.")


class Scaling(Section):
    min_instances: Annotated[int, Field(ge=0, le=1000)] | None = None
    max_instances: Annotated[int, Field(ge=1, le=1000)] | None = None
    concurrency: Annotated[int, Field(ge=1, le=1000)] | None = Field(
        default=None, description="Requests per instance at a time."
    )


class Health(Section):
    path: Annotated[str, Field(pattern=r"^/")] = Field(
        default="/", description="A GET answered with 2xx-4xx says that the program is up."
    )
    startup_seconds: Annotated[int, Field(ge=1, le=3600)] = Field(
        default=240, description="How long the program may take to listen."
    )
    period_seconds: Annotated[int, Field(ge=1, le=240)] = 10
    timeout_seconds: Annotated[int, Field(ge=1, le=240)] = 5
    failure_threshold: Annotated[int, Field(ge=1, le=100)] = 3


class DataVolume(Section):
    """A read-only folder of the program's filesystem, from a bucket or an NFS export."""

    mount: Annotated[str, Field(pattern=r"^/")]
    bucket: str | None = None
    nfs_ip: str | None = None
    nfs_path: str | None = None


class K8s(Section):
    """For TANGO's other deployers; kept so that one file serves all."""

    nfs_ip: str | None = None
    nfs_path: str | None = None


class Deploy(Section):
    type: Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,40}$", description="The target.")]
    service_name: Annotated[str, Field(pattern=r"^[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?$")] | None = None
    workdir: str | None = Field(default=None, description="Folder of the program in the image; relative to /workspace.")
    entrypoint: tuple[Annotated[str, Field(max_length=4096)], ...] = Field(
        default=(), description="argv; a .py runs with python, a .sh with sh."
    )
    pre_exec: tuple[tuple[str, ...], ...] = Field(
        default=(), description="argv lists run in order before the entrypoint."
    )
    network: Network = Network()
    resources: Resources = Resources()
    env: dict[EnvName, str] = Field(default_factory=dict)
    secrets: dict[EnvName, SecretName] = Field(
        default_factory=dict, description="Variable -> name of a secret, `name` or `name:version`."
    )
    scaling: Scaling = Scaling()
    health: Health = Health()
    public: bool = Field(default=False, description="Open to everyone. Private is the default.")
    region: str | None = None
    timeout_seconds: Annotated[int, Field(ge=1, le=3600)] | None = Field(default=None, description="Longest request.")
    service_account: str | None = None
    data: tuple[DataVolume, ...] = ()
    on_drift: Literal["heal", "report"] = Field(
        default="heal",
        description="What happens when the service is deleted or changed behind our back: `heal` puts it back, "
        "`report` leaves it and says what differs.",
    )
    k8s: K8s | None = None


class OptionalFiles(Section):
    """Files of the project that must exist."""

    nn_file: ProjectPath | None = None
    weight_file: ProjectPath | tuple[ProjectPath, ...] | None = None
    annotation_file: ProjectPath | None = None
    model_file: ProjectPath | None = None

    def named(self) -> tuple[tuple[str, str], ...]:
        """(key, path) of every file named here."""
        rows: list[tuple[str, str]] = []
        for key, value in self:
            paths = (value,) if isinstance(value, str) else (value or ())
            rows += [(key, path) for path in paths]
        return tuple(rows)

    def weights(self) -> tuple[str, ...]:
        return tuple(path for key, path in self.named() if key in ("weight_file", "model_file"))


class DeploymentSpec(Section):
    """One deployment.yaml, translated and checked."""

    build: Build = Build()
    deploy: Deploy
    optional: OptionalFiles = OptionalFiles()

    @property
    def container_port(self) -> int:
        """Where the program listens: `service_container_port`, else `service_host_port`, else 8080."""
        network = self.deploy.network
        return network.service_container_port or network.service_host_port or 8080

    @property
    def prebuilt(self) -> bool:
        """Without `build.components`, `image_uri` names an image that is used as it is."""
        return self.build.components is None and self.build.image_uri is not None


@dataclass(frozen=True, slots=True)
class LoadedSpec:
    """What `deployment_yaml.load` returns.

    notes: one line for each thing that was translated or assumed, for the event history.
    origins: where a value was written, e.g. `build.components.libs[1]` -> `deployment.yaml:9:13`.
    """

    spec: DeploymentSpec
    notes: tuple[str, ...] = ()
    origins: dict[str, str] = field(default_factory=dict)


ENGINE_PACKAGES: dict[str, tuple[str, ...]] = {
    "pytorch": ("torch",),
    "torch": ("torch",),
    "tensorflow": ("tensorflow", "tensorflow-cpu"),
    "onnx": ("onnxruntime", "onnxruntime-gpu"),
    "onnxruntime": ("onnxruntime", "onnxruntime-gpu"),
    "tensorrt": ("tensorrt",),
    "tvm": ("apache-tvm",),
}
"""Inference engine -> its package on PyPI, and others that stand for it where the file names one."""


def python_version(spec: DeploymentSpec) -> str | None:
    """The interpreter that the file picks, e.g. `3.9`; None where it picks none.

    `python==3.9`, `==3.9.*` and `==3.9.7` pick 3.9, and `python>=3.9` the lowest that fits: 3.9.
    """
    return python_of(text for text, _ in _written_requirements(spec))


def python_of(requirements: Iterable[str]) -> str | None:
    """The minor version that the `python…` lines among `requirements` pick together.

    Raises:
        ValueError: they contradict each other, or set no lower bound, in words for a person.
    """
    lines = [line for line in map(Requirement, requirements) if line.name.lower() == "python" and line.specifier]
    if not lines:
        return None
    written = " and ".join(dict.fromkeys(str(line) for line in lines))
    clauses = [clause for line in lines for clause in line.specifier]
    if all(clause.operator in ("<", "<=", "!=") for clause in clauses):
        raise ValueError(f"{written} picks no interpreter; write e.g. python==3.11")
    fitting = _minors(SpecifierSet(",".join(map(str, clauses)), prereleases=False), clauses)
    if fitting:
        return fitting[0]
    wrong = "contradict each other" if len(lines) > 1 else "is met by no python 3"
    raise ValueError(f"{written} {wrong}; write one line, e.g. python==3.11")


def _minors(wanted: SpecifierSet, clauses: Iterable[Any]) -> list[str]:
    """Minor versions with a release that fits: the first, the last, or one that a clause names."""
    named = {str(clause.version).removesuffix(".*") for clause in clauses}
    found = []
    for minor in range(6, 40):
        line = f"3.{minor}"
        tried = (f"{line}.0", f"{line}.99", *(name for name in named if f"{name}.".startswith(f"{line}.")))
        if any(wanted.contains(version) for version in tried):
            found.append(line)
    return found


def python_requirements(spec: DeploymentSpec) -> tuple[tuple[str, str], ...]:
    """(requirement, where it is written, e.g. `build.components.libs[1]`) of all that python needs, each once.

    Without the `python…` lines; with the engine's own package where the file does not name it.
    """
    rows = [row for row in _written_requirements(spec) if Requirement(row[0]).name.lower() != "python"]
    engine = engine_package(spec)
    if engine:
        rows.append((engine, "build.components.engine"))
    first: dict[str, str] = {}
    for text, path in rows:
        first.setdefault(text.strip(), path)
    return tuple(first.items())


def engine_package(spec: DeploymentSpec) -> str | None:
    """The package of `build.components.engine`, if it has one and the file does not name it already."""
    components = spec.build.components
    packages = ENGINE_PACKAGES.get((components.engine or "").lower(), ()) if components else ()
    named = {canonicalize_name(Requirement(text).name) for text, _ in _written_requirements(spec)}
    return packages[0] if packages and not named.intersection(packages) else None


def _written_requirements(spec: DeploymentSpec) -> tuple[tuple[str, str], ...]:
    components = spec.build.components
    if components is None:
        return ()
    lists = (
        ("build.components.libs", components.libs),
        ("build.components.custom_packages.pypi", components.custom_packages.pypi),
    )
    return tuple((text, f"{path}[{index}]") for path, texts in lists for index, text in enumerate(texts))
