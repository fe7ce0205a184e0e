"""The Dockerfile that builds what an image of ours holds, for whoever wants to go on without this builder. Pure.

https://docs.docker.com/reference/dockerfile/
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from image_builder.contents import Package
from image_builder.contract import SCRATCH, BuildRequest
from image_builder.errors import NoDockerfile
from image_builder.layers.files import LAUNCHER
from image_builder.layers.wheel import VENV

PROGRAM, WEIGHTS, LAUNCH = "program", "weights", "launch"
"""Folders of the build context."""
REQUIREMENTS = "requirements.txt"

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*")
_FOLDER = re.compile(r"/[\w./+@:,=~%-]*")
_REFERENCE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@\[\]-]*")
_DEBIAN = re.compile(r"[a-z0-9][a-z0-9+.-]+(=[A-Za-z0-9.+~:-]+)?")
_PORT = re.compile(r"\d{1,5}/(tcp|udp|sctp)")


@dataclass(frozen=True, slots=True)
class Recipe:
    """What a Dockerfile is written from.

    digest: of the image. base: its base image by digest, if it has one. run: the part `config` of its configuration.
    folders: which of PROGRAM, WEIGHTS and LAUNCH there are.
    """

    digest: str
    request: BuildRequest
    base: str | None
    run: Mapping[str, Any]
    packages: Sequence[Package]
    folders: Sequence[str]


def dockerfile(recipe: Recipe) -> str:
    """The text; it needs what else is in its build context.

    Raises:
        NoDockerfile: a name in it cannot be written in a Dockerfile.
    """
    run = recipe.run
    workdir = _checked(_FOLDER, run.get("WorkingDir") or "/", "folder")
    lines = [
        *_head(recipe),
        *_base(recipe),
        *_apt(recipe.request.system_packages),
        *_python(recipe),
        *_copies(recipe.folders, workdir),
        *(_env(row) for row in run.get("Env") or ()),
        f"WORKDIR {workdir}",
        *(f"EXPOSE {_checked(_PORT, port, 'port')}" for port in run.get("ExposedPorts") or ()),
        f"ENTRYPOINT {json.dumps(list(run.get('Entrypoint') or ()))}",
    ]
    return "\n".join(lines) + "\n"


def requirements(packages: Sequence[Package], request: BuildRequest) -> str:
    """For pip: every wheel by its hash. Where they come from is left to pip's own settings."""
    addresses = {}
    for row in request.requirements:
        asked = Requirement(row.text)
        if asked.url:
            addresses[canonicalize_name(asked.name)] = asked.url.partition("#")[0]
    return "".join(_requirement(package, addresses.get(canonicalize_name(package.name))) for package in packages)


def _requirement(package: Package, address: str | None) -> str:
    asked = f"{package.name} @ {address}" if address else f"{package.name}=={package.version}"
    return f"{asked} --hash=sha256:{package.sha256}\n"


def _head(recipe: Recipe) -> list[str]:
    build = f"GET /builds/ID/dockerfile?format=tar answers the whole build context of {recipe.digest}:"
    told = {
        PROGRAM: "the program folder, without what its .dockerignore names",
        WEIGHTS: "the weights of the program folder, in a layer of their own",
        LAUNCH: "runs the commands of pre_exec, then becomes the entrypoint",
    }
    lines = [build, "requirements.txt: the packages by hash; pip's own settings name the index"]
    return [f"# {line}" for line in (*lines, *(f"{name}/: {told[name]}" for name in told if name in recipe.folders))]


def _base(recipe: Recipe) -> list[str]:
    base = recipe.base or recipe.request.base_image or SCRATCH
    note = []
    if base == SCRATCH:
        base = f"python:{recipe.request.python}-slim"
        note = [f"# The image has no base (build.base_image: scratch), yet needs a python; {base} is the usual one."]
    return [*note, f"ARG BASE={_checked(_REFERENCE, base, 'base image')}", "FROM ${BASE}"]


def _apt(packages: Sequence[str]) -> list[str]:
    """In shell form, so every word must be harmless; Debian's own names are."""
    if not packages:
        return []
    words = " ".join(_checked(_DEBIAN, package, "system package") for package in packages)
    return [
        "RUN apt-get update \\",
        f" && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends {words} \\",
        " && rm -rf /var/lib/apt/lists/*",
    ]


def _python(recipe: Recipe) -> list[str]:
    """Packages that a base brings stay usable, yet what is asked for is installed whatever the base has."""
    options = ["--system-site-packages"] if recipe.base else []
    lines = [f"RUN {json.dumps(['python3', '-m', 'venv', *options, f'/{VENV}'])}"]
    if recipe.packages:
        install = ["install", "--no-cache-dir", "--no-deps", "--ignore-installed", "--require-hashes", "-r"]
        lines.append(f"COPY {json.dumps([REQUIREMENTS, f'/{LAUNCHER}/'])}")
        lines.append(f"RUN {json.dumps([f'/{VENV}/bin/python', '-m', 'pip', *install, f'/{LAUNCHER}/{REQUIREMENTS}'])}")
    return lines


def _copies(folders: Sequence[str], workdir: str) -> list[str]:
    """What changes most comes last."""
    homes = {WEIGHTS: workdir.rstrip("/"), LAUNCH: f"/{LAUNCHER}", PROGRAM: workdir.rstrip("/")}
    return [f"COPY {json.dumps([f'{name}/', f'{home}/'])}" for name, home in homes.items() if name in folders]


def _env(row: str) -> str:
    name, _, value = row.partition("=")
    if any(ord(sign) < 32 or ord(sign) == 127 for sign in value):
        raise _refusal(f"the variable {name}", row)
    escaped = re.sub(r'([\\"$])', r"\\\1", value)
    return f'ENV {_checked(_VARIABLE, name, "variable")}="{escaped}"'


def _checked(pattern: re.Pattern[str], text: str, what: str) -> str:
    if not pattern.fullmatch(text):
        raise _refusal(f"the {what}", text)
    return text


def _refusal(what: str, text: str) -> NoDockerfile:
    return NoDockerfile(
        f"{what} {text[:100]!r} cannot be written in a Dockerfile",
        "Choose another name for it in deployment.yaml, and build again.",
    )
