"""What the schema cannot say: contradictions between values, and what is assumed where nothing is said. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from packaging.requirements import InvalidRequirement, Requirement

from cloud_manager.deployment_spec import (
    ENGINE_PACKAGES,
    DeploymentSpec,
    engine_package,
    python_of,
    python_version,
)
from cloud_manager.finding import Finding, join, one_line, quoted
from cloud_manager.translation import unsaid
from cloud_manager.yaml_source import Mapping, Node, Position, Scalar, Sequence

DEFAULT_PYTHON = "3.11"
_OF_OTHERS = ("docker.io/library/", "us-docker.pkg.dev/cloudrun/", "gcr.io/cloudrun/", "gcr.io/google-samples/")


def contradictions(root: Mapping, file: str) -> list[Finding]:
    """Of the translated tree, so that they are told together with the schema's findings."""
    return [
        Finding(file, place.line, place.column, path, message)
        for check in (_no_entrypoint, _interpreters, _variables, _instances)
        for place, path, message in check(root)
    ]


_Rows = Iterator[tuple[Position, str, str]]


def _no_entrypoint(root: Mapping) -> _Rows:
    deploy = root.get("deploy")
    if not isinstance(deploy, Mapping):
        return
    written = deploy.get("entrypoint")
    if written is not None and not (isinstance(written, Sequence) and not written.items):
        if isinstance(written, Sequence) and unsaid(written.items[0]):
            yield written.position, "deploy.entrypoint[0]", "the program's name is empty"
        return
    build = root.get("build")
    prebuilt = isinstance(build, Mapping) and "image_uri" in build.entries and "components" not in build.entries
    if not prebuilt:
        message = "is missing; name the program, e.g. entrypoint: main.py (only a prebuilt image needs none)"
        yield deploy.position, "deploy.entrypoint", message


def _interpreters(root: Mapping) -> _Rows:
    path = "build.components.libs"
    rows = [*_texts(root, path), *_texts(root, "build.components.custom_packages.pypi")]
    pins = [(node, where) for node, where in rows if _names_python(node.text)]
    try:
        python_of(node.text for node, _ in pins)
    except ValueError as error:
        yield pins[-1][0].position, pins[-1][1], str(error)


def _names_python(text: str) -> bool:
    try:
        return len(text) < 200 and Requirement(text).name.lower() == "python"
    except InvalidRequirement:
        return False


def _texts(root: Mapping, path: str) -> Iterator[tuple[Scalar, str]]:
    node: Node | None = root
    for step in path.split("."):
        node = node.get(step) if isinstance(node, Mapping) else None
    for index, item in enumerate(node.items if isinstance(node, Sequence) else ()):
        if isinstance(item, Scalar) and isinstance(item.value, str):
            yield item, f"{path}[{index}]"


def _variables(root: Mapping) -> _Rows:
    deploy = root.get("deploy")
    if not isinstance(deploy, Mapping):
        return
    env, secrets = deploy.get("env"), deploy.get("secrets")
    for section, node in (("deploy.env", env), ("deploy.secrets", secrets)):
        if isinstance(node, Mapping) and "PORT" in node.entries:
            message = "PORT is set for the program; say it by deploy.network.service_container_port"
            yield node.entries["PORT"].position, join(section, "PORT"), message
    if isinstance(env, Mapping) and isinstance(secrets, Mapping):
        for name in env.entries.keys() & secrets.entries.keys() - {"PORT"}:
            yield (
                secrets.entries[name].position,
                join("deploy.secrets", name),
                "is set by deploy.env as well; keep one",
            )


def _instances(root: Mapping) -> _Rows:
    deploy = root.get("deploy")
    scaling = deploy.get("scaling") if isinstance(deploy, Mapping) else None
    if not isinstance(scaling, Mapping):
        return
    low, high = scaling.get("min_instances"), scaling.get("max_instances")
    if isinstance(low, Scalar) and isinstance(high, Scalar) and _exceeds(low.value, high.value):
        yield low.position, "deploy.scaling.min_instances", f"{low.value} is more than max_instances, {high.value}"


def _exceeds(low: object, high: object) -> bool:
    return isinstance(low, int) and isinstance(high, int) and low > high


def assumptions(spec: DeploymentSpec) -> tuple[str, ...]:
    """One line for each thing that was assumed, for the event history."""
    rows = _image(spec) if spec.prebuilt else (*_base(spec), *_engine(spec), *_name(spec))
    return tuple(one_line(row) for row in (*rows, *_port(spec)))


def is_name_of_others(image_uri: str) -> bool:
    """Whether only Docker or Google can publish under it: TANGO's files have such names as samples."""
    first, slash, _ = image_uri.partition("/")
    return not slash or f"{first}/" == "library/" or image_uri.startswith(_OF_OTHERS)


def _image(spec: DeploymentSpec) -> Iterator[str]:
    yield f"no build.components: the image {spec.build.image_uri} is used as it is"


def _base(spec: DeploymentSpec) -> Iterator[str]:
    picked = python_version(spec)
    python = picked or DEFAULT_PYTHON
    if spec.build.base_image is None:
        os = f"os: {spec.build.os} names no base image; " if spec.build.os else "no base image is named; "
        yield f"{os}the official python:{python}-slim serves (build.base_image picks another)"
    if picked is None:
        yield f"no python is named; {DEFAULT_PYTHON} or the target's own serves (libs: [python=={python}] picks one)"


def _engine(spec: DeploymentSpec) -> Iterator[str]:
    engine = spec.build.components.engine if spec.build.components else None
    package = engine_package(spec)
    if package:
        yield f"the engine {engine} needs {package}, which the file does not name; it is added"
    elif engine and engine.lower() not in ENGINE_PACKAGES:
        yield f"the engine {quoted(engine)} has no python package that is known here; nothing is added for it"


def _name(spec: DeploymentSpec) -> Iterator[str]:
    uri = spec.build.image_uri
    if uri and spec.deploy.type == "docker" and is_name_of_others(uri):
        yield f"image_uri: nobody but its owner can publish {uri}; the image goes to the Docker Engine alone"


def _port(spec: DeploymentSpec) -> Iterator[str]:
    network = spec.deploy.network
    if network.service_container_port is None:
        why = "service_host_port" if network.service_host_port else "nothing is said"
        yield f"the program is told to listen on {spec.container_port} ({why}), by the variable PORT"
