"""A request and the project's files become a plan: what goes into the image, and the key that names it all."""

from __future__ import annotations

import hashlib
import json
import os
import posixpath
import re
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path

from packaging.requirements import InvalidRequirement
from packaging.requirements import Requirement as PythonRequirement

from image_builder.contract import SCRATCH, BuildRequest, Requirement
from image_builder.engines.apt import SystemPackage, system_packages
from image_builder.engines.context import DOCKERFILE
from image_builder.errors import BadBuildRequest
from image_builder.file_hashes import FileHashes
from image_builder.image_path import fault
from image_builder.interpreters import Interpreter
from image_builder.oci.reference import parse
from image_builder.project_lock import ProjectLock, read_project_lock
from image_builder.source_tree import SourceFile, read_tree
from image_builder.work import StopFlag

FORMAT = 3
"""Part of every key: raised when the same inputs shall give another image than before."""

_WORKDIR_MAX = 512
"""Bytes. Below it stand paths of the project, and Linux takes 4096 in all."""
_ENTRY_FIELDS = sorted(field.name for field in fields(SourceFile))
_HOME = "/workspace"
_CREDENTIALS = re.compile(r"//[^/?#]*@")
_RESERVED = ("/opt/venv", "/opt/cloud-deploy")


@dataclass(frozen=True, slots=True)
class BuildPlan:
    """Everything a build does follows from this. Equal inputs have equal keys, whoever asks.

    key: 64 hex digits over the request (without owner, source, origins and where the image goes), all entries of files
        and weights, the project's lock, and the kind of bytecode.
    source: the real folder that the paths are relative to.
    compiler: what compiles the packages' modules ahead; compiles: whether they were to be compiled.
    lock: the project's own, which then decides what is installed.
    base: the base image by digest, where an earlier try of this very build found it.
    """

    request: BuildRequest
    key: str
    source: Path
    files: tuple[SourceFile, ...]
    weights: tuple[SourceFile, ...]
    compiler: Interpreter | None = None
    lock: ProjectLock | None = None
    base: str | None = None
    compiles: bool = False

    @property
    def id(self) -> str:
        """Of the build: the same image for two places is two builds."""
        push = self.request.push
        return (hashlib.sha256(f"{self.key} {push}".encode()).hexdigest() if push else self.key)[:32]

    @property
    def whole(self) -> bool:
        """Built by the project's own Dockerfile, which an engine was named for."""
        return self.request.engine is not None and any(file.path == DOCKERFILE for file in self.files)

    @property
    def system_packages(self) -> tuple[SystemPackage, ...]:
        return system_packages(self.request.system_packages, self.request.system_package_origins)

    @property
    def entrypoint(self) -> tuple[str, ...]:
        return resolve_argv(self.request.entrypoint)

    @property
    def pre_exec(self) -> tuple[tuple[str, ...], ...]:
        return tuple(resolve_argv(argv) for argv in self.request.pre_exec)

    @property
    def workdir(self) -> str:
        """Absolute, normalised."""
        return posixpath.normpath(posixpath.join(_HOME, self.request.workdir))


def make_plan(
    request: BuildRequest,
    shared_root: Path,
    hashes: FileHashes,
    flag: StopFlag | None = None,
    *,
    compiler_of: Callable[[str], Interpreter | None] | None = None,
) -> BuildPlan:
    """Read the project and decide. Blocking (it hashes what `hashes` does not know): call it in a thread.

    compiler_of: python X.Y -> what compiles modules for it, if anything does. None: they are not to be compiled.

    Raises:
        BadBuildRequest: the request asks for what cannot be; code and words say what.
        SourceChanged: a file vanished while it was read.
    """
    check_request(request)
    source = _source_folder(request.source, shared_root)
    weights = frozenset(_weight_path(path) for path in request.weights)
    own = frozenset({DOCKERFILE}) if request.engine else frozenset[str]()
    entries = read_tree(source, hashes, keep=weights | own, flag=flag)
    heavy = tuple(entry for entry in entries if _below(entry.path, weights))
    program = tuple(entry for entry in entries if not _below(entry.path, weights))
    _check_files(request, {entry.path for entry in entries}, weights)
    lock = read_project_lock(source, request.lock, shared_root) if request.lock is not None else None
    compiles = compiler_of is not None and bool(request.requirements or lock)
    compiler = compiler_of(request.python) if compiler_of and compiles else None
    key = plan_key(request, entries, compiler, lock)
    return BuildPlan(request, key, source, program, heavy, compiler, lock, compiles=compiles)


def plan_key(
    request: BuildRequest,
    entries: tuple[SourceFile, ...],
    compiler: Interpreter | None = None,
    lock: ProjectLock | None = None,
) -> str:
    """64 hex digits. Left out: who asks, where the files lie, where a requirement was written, where the image goes."""
    left_out = {"owner", "source", "requirements", "system_package_origins", "push"}
    asked = request.model_dump(mode="json", exclude=left_out)
    asked["requirements"] = sorted(requirement.text for requirement in request.requirements)
    asked["system_packages"] = sorted(request.system_packages)
    asked["weights"] = sorted(request.weights)
    everything = {
        "format": FORMAT,
        "request": asked,
        "entries": [],
        "bytecode": compiler.magic if compiler else None,
        "lock": lock.text if lock else None,
    }
    before, mark, after = json.dumps(everything, sort_keys=True).partition('"entries": [')
    digest = hashlib.sha256(f"{before}{mark}".encode())
    for count, entry in enumerate(entries):  # one by one: there may be hundreds of thousands
        digest.update(f"{', ' if count else ''}{_entry_json(entry)}".encode())
    digest.update(after.encode())
    return digest.hexdigest()


def _entry_json(entry: SourceFile) -> str:
    return json.dumps({name: getattr(entry, name) for name in _ENTRY_FIELDS})


def resolve_argv(argv: tuple[str, ...]) -> tuple[str, ...]:
    """What is executed: a `.py` runs with python, a `.sh` with sh, all else as it is."""
    if argv and argv[0].endswith(".py"):
        return ("python", *argv)
    if argv and argv[0].endswith(".sh"):
        return ("sh", *argv)
    return argv


def check_request(request: BuildRequest) -> None:
    """Judge the request alone, without the files.

    Raises:
        BadBuildRequest
    """
    try:
        request.model_dump_json()
    except ValueError as error:
        raise BadBuildRequest("the request holds half a character (a surrogate)", "Write it in UTF-8.") from error
    _check_supported(request)
    for requirement in request.requirements:
        check_requirement(requirement)
    for argv in (request.entrypoint, *request.pre_exec):
        if not argv or not argv[0] or any("\0" in word for word in argv):
            raise BadBuildRequest(
                "an entrypoint or pre_exec command is empty or holds a NUL character",
                "Write deploy.entrypoint as the program's file, e.g. app.py.",
                code="bad_command",
            )
    _check_workdir(request.workdir)


def check_requirement(requirement: Requirement) -> PythonRequirement:
    """The requirement as the resolver will see it: one PEP 508 line that needs no build from source.

    Raises:
        BadBuildRequest: names the line of the file it comes from.
    """
    where = f"{requirement.origin}: " if requirement.origin else ""
    if _CREDENTIALS.search(requirement.text):
        raise BadBuildRequest(
            f"{where}a requirement's address holds a name or password, which would be told to all who see the build",
            "Give the credentials to the builder's host instead, e.g. in ~/.netrc, and take them out of the address.",
            code="credentials_in_requirement",
        )
    try:
        if not requirement.text.replace("\t", " ").isprintable():
            raise InvalidRequirement("it holds a control character")
        parsed = PythonRequirement(requirement.text)
    except InvalidRequirement as error:
        raise BadBuildRequest(
            f"{where}{requirement.text[:200]!r} is not a python requirement ({str(error).splitlines()[0]})",
            "Write a name with an optional version, e.g. flask>=3.",
            code="bad_requirement",
        ) from error
    if parsed.url and not _is_wheel_url(parsed.url):
        raise BadBuildRequest(
            f"{where}{parsed.name} is to be built from {parsed.url}",
            "Name a released version, or the https address of a wheel; anything else is not built.",
            code="source_package_unsupported",
        )
    return parsed


def _is_wheel_url(url: str) -> bool:
    return url.startswith(("https://", "http://")) and url.partition("#")[0].partition("?")[0].endswith(".whl")


def _check_supported(request: BuildRequest) -> None:
    packages = system_packages(request.system_packages, request.system_package_origins)
    if packages and request.base_image == SCRATCH:
        named = ", ".join(row.text for row in packages)[:200]
        raise BadBuildRequest(
            f"without a base image there is nothing to install system packages into ({named})",
            "Remove custom_packages.apt from build.components, or build.base_image: scratch; deploy.type: local has no "
            "system packages.",
            code="system_packages_unsupported",
        )
    if request.push is not None and parse(request.push).digest:
        raise BadBuildRequest(
            f"an image cannot be published as {request.push[:200]}: its digest is not known before it is made",
            "Name a tag in build.image_uri, e.g. registry/team/model:1.",
            code="bad_image_reference",
        )
    if request.engine and request.base_image == SCRATCH:
        raise BadBuildRequest(
            f"build.engine: {request.engine} makes whole images, not layers alone",
            "Remove build.engine; the image is then assembled without one.",
            code="engine_unsupported",
        )
    if request.base_image not in (None, SCRATCH):
        parse(str(request.base_image))


def _check_workdir(workdir: str) -> None:
    path = posixpath.normpath(posixpath.join(_HOME, workdir))
    forbidden = path in ("/", "//", "/opt") or any(path == top or path.startswith(f"{top}/") for top in _RESERVED)
    held = fault(path.strip("/")) is None and path.isprintable() and len(os.fsencode(path)) <= _WORKDIR_MAX
    if forbidden or not held or ".." in workdir.split("/"):
        raise BadBuildRequest(
            f"the program cannot live in {workdir[:200]!r}",
            "Set deploy.workdir to a folder of its own, e.g. /workspace.",
            code="bad_workdir",
        )


def _source_folder(relative: str, shared_root: Path) -> Path:
    root = shared_root.resolve()
    if "\0" not in relative and not relative.startswith("/"):
        source = (root / relative).resolve()
        if source != root and source.is_relative_to(root):
            if source.is_dir():
                return source
            raise BadBuildRequest(
                f"the program folder {relative} does not exist",
                "Put the program there, beside deployment.yaml.",
                code="source_missing",
            )
    raise BadBuildRequest(
        f"the program folder {relative[:200]!r} is outside the shared root",
        "Keep the program below the shared root, without symbolic links that lead out of it.",
        code="source_outside",
    )


def _weight_path(path: str) -> str:
    cleaned = posixpath.normpath(path)
    if not path or "\0" in path or cleaned.startswith(("/", "../")) or cleaned in (".", ".."):
        raise BadBuildRequest(
            f"the weights {path[:200]!r} are not a file of the project",
            "Name a file by its path relative to the program folder.",
            code="bad_weights",
        )
    return cleaned


def _below(path: str, tops: frozenset[str]) -> bool:
    return path in tops or any(path.startswith(f"{top}/") for top in tops)


def _check_files(request: BuildRequest, found: set[str], weights: frozenset[str]) -> None:
    for weight in sorted(weights):
        if not any(_below(path, frozenset({weight})) for path in found):
            raise BadBuildRequest(
                f"the weights {weight} are not in {request.source}",
                "Put the file there, or correct its name in deployment.yaml.",
                code="weights_missing",
            )
    if request.engine and DOCKERFILE not in found and not request.system_packages:
        raise BadBuildRequest(
            f"build.engine is {request.engine}, yet there is no {DOCKERFILE} in {request.source}",
            f"Put the {DOCKERFILE} there, or remove build.engine; the image is then assembled without one.",
            code="dockerfile_missing",
        )
    script = posixpath.normpath(request.entrypoint[0])
    written_later = bool(request.pre_exec) or (request.engine is not None and DOCKERFILE in found)
    if script.endswith((".py", ".sh")) and not script.startswith(("/", "..")) and not written_later:
        _check_script(request, script, found)


def _check_script(request: BuildRequest, script: str, found: set[str]) -> None:
    if script not in found:
        raise BadBuildRequest(
            f"the entrypoint {script} is not in {request.source}",
            "Put the file there (and not in .dockerignore), or correct deploy.entrypoint.",
            code="entrypoint_missing",
        )
