"""What the steps of a build ask of docker. Pure.

Only the builder `gcr.io/cloud-builders/docker` is served: another builder's image cannot be had here, and to run its
program on this machine instead would give whoever submits a build this machine.
"""

from __future__ import annotations

import argparse
import posixpath
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn

from gcp_emulator.run_errors import Refused

_BUILDER = re.compile(r"gcr\.io/cloud-builders/docker(:[\w.-]+)?(@sha256:[0-9a-f]{64})?")
_WORKSPACE = "/workspace"
_FROM = re.compile(r"^(?P<before>\s*FROM\s+(?:--platform=\S+\s+)?)(?P<image>\S+)", re.IGNORECASE | re.MULTILINE)
_REGISTRY = re.compile(r"[a-z0-9-]+-docker\.pkg\.dev/")


@dataclass(frozen=True, slots=True)
class Build:
    """file, context: relative to the workspace. options: for `docker build` as they are."""

    tags: tuple[str, ...]
    file: str
    context: str
    options: tuple[str, ...] = ()
    environment: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Push:
    image: str


@dataclass(frozen=True, slots=True)
class Tag:
    source: str
    target: str


@dataclass(frozen=True, slots=True)
class Pull:
    image: str


Command = Build | Push | Tag | Pull


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise _refused(message)


def command_of(step: Any) -> Command:
    """A message BuildStep, its variables replaced. Raises Refused with UNIMPLEMENTED: the twin does not run such."""
    if not _BUILDER.fullmatch(step.name):
        raise _refused(f"the builder {step.name} is not there, only gcr.io/cloud-builders/docker")
    if step.script or step.entrypoint not in ("", "docker") or step.volumes:
        raise _refused("a step with a script, an entrypoint or volumes of its own is not run")
    folder = _below(step.dir_ or ".", ".")
    words = list(step.args)
    kind = words[0] if words else ""
    if kind == "build":
        return _build(words[1:], folder, dict(pair.split("=", 1) for pair in step.env))
    if kind == "push" and len(words) == 2:
        return Push(tagged(words[1]))
    if kind == "pull" and len(words) == 2:
        return Pull(tagged(words[1]))
    if kind == "tag" and len(words) == 3:
        return Tag(tagged(words[1]), tagged(words[2]))
    raise _refused(
        f"docker {' '.join(words)[:100]!r} is not run, only docker build, push IMAGE, pull IMAGE and tag A B"
    )


def _build(words: Sequence[str], folder: str, environment: dict[str, str]) -> Build:
    parser = _Parser(prog="docker build", add_help=False, allow_abbrev=False)
    parser.add_argument("-t", "--tag", action="append", default=[])
    parser.add_argument("-f", "--file")
    for name in ("--build-arg", "--label", "--cache-from"):
        parser.add_argument(name, action="append", default=[])
    for name in ("--platform", "--target", "--network"):
        parser.add_argument(name)
    for name in ("--no-cache", "--pull", "--rm", "--force-rm", "-q", "--quiet"):
        parser.add_argument(name, action="store_true")
    parser.add_argument("context")
    given = parser.parse_args(words)
    options = [word for value in given.build_arg for word in ("--build-arg", value)]
    options += [word for value in given.label for word in ("--label", value)]
    options += [
        word for name in ("platform", "target") if (value := getattr(given, name)) for word in (f"--{name}", value)
    ]
    options += ["--no-cache"] if given.no_cache else []
    context = _below(given.context, folder)
    file = _below(given.file, folder) if given.file else posixpath.join(context, "Dockerfile")
    kept = {name: value for name, value in environment.items() if name == "DOCKER_BUILDKIT"}
    return Build(tuple(map(tagged, given.tag)), posixpath.normpath(file), context, tuple(options), kept)


def _below(path: str, folder: str) -> str:
    """Relative to the workspace. Raises Refused for what lies outside of it."""
    absolute = posixpath.normpath(posixpath.join(_WORKSPACE, folder, path))
    if absolute != _WORKSPACE and not absolute.startswith(f"{_WORKSPACE}/"):
        raise _refused(f"{path!r} is outside /workspace")
    return posixpath.relpath(absolute, _WORKSPACE)


def tagged(image: str) -> str:
    """The name with its tag, which is `latest` where none is said."""
    last = image.rsplit("/", 1)[-1]
    return image if ":" in last or "@" in last else f"{image}:latest"


def bases(dockerfile: str) -> list[str]:
    """Images of Artifact Registry that it builds on, in their order, each once."""
    found = (match["image"] for match in _FROM.finditer(dockerfile))
    return list(dict.fromkeys(image for image in found if _REGISTRY.match(image)))


def with_bases(dockerfile: str, names: dict[str, str]) -> str:
    """The same, with other names for some of its bases."""
    return _FROM.sub(lambda match: f"{match['before']}{names.get(match['image'], match['image'])}", dockerfile)


def _refused(words: str) -> Refused:
    return Refused("UNIMPLEMENTED", f"gcp_emulator does not run this step: {words}.")
