"""What deployment.yaml names must exist beside it: the program's scripts and the optional files."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterator
from functools import cached_property
from itertools import islice
from pathlib import Path, PurePosixPath

from cloud_manager.build_request import Program
from cloud_manager.deployment_spec import DeploymentSpec, LoadedSpec
from cloud_manager.finding import Finding, in_order, quoted

_INTERPRETER = re.compile(r"(python(3(\.[0-9]{1,2})?)?|sh|bash)")
_SCRIPTS = (".py", ".sh")
_SEARCHED = 2_000
"""Files that are looked at for a name like the missing one; a data set may hold millions."""


def program_folder(project_dir: Path) -> Path:
    """Where the program is: `nn_model`, which TANGO's code generator makes, else the project's own folder."""
    generated = project_dir / "nn_model"
    return generated if generated.is_dir() else project_dir


def program_of(project: Path, spec: DeploymentSpec, shared_root: Path) -> Program:
    """The program's folder, the weights in it (those beside deployment.yaml are no part of the image), and the lock."""
    folder = program_folder(project)
    weights = tuple(path for path in spec.optional.weights() if (folder / path).exists())
    lock = spec.build.lock
    if lock is not None and folder != project and not (folder / lock).exists():
        lock = f"../{lock}"
    return Program(folder.relative_to(shared_root).as_posix(), weights, lock)


def check(loaded: LoadedSpec, project_dir: Path) -> tuple[Finding, ...]:
    """One finding for each file that is named and not there, or not inside the project (symbolic links included).

    Scripts are looked for in the program's folder, optional files there or beside deployment.yaml.
    """
    files = _ProjectFiles(project_dir)
    named = [] if loaded.spec.prebuilt else [(path, name, False) for path, name in _scripts(loaded)]
    named += [(path, name, True) for path, name in _optional(loaded)]
    found = []
    for path, name, beside in named:
        fault = files.fault(name, beside=beside)
        if fault:
            found.append(_finding(loaded, path, fault))
    return in_order(found)


def script_of(words: tuple[str, ...]) -> int | None:
    """The index of the script in a command: `main.py`, or the one after `python`, `sh` or `bash`; None without one.

    An absolute path names a file of the image and not of the project.
    """
    if not words:
        return None
    start = 0
    if _INTERPRETER.fullmatch(PurePosixPath(words[0]).name):
        start = next((index for index, word in enumerate(words[1:], 1) if not word.startswith("-")), len(words))
        if any(word in ("-c", "-m") for word in words[1:start]):
            return None
    if start < len(words) and words[start].endswith(_SCRIPTS) and not words[start].startswith("/"):
        return start
    return None


def _scripts(loaded: LoadedSpec) -> Iterator[tuple[str, str]]:
    deploy = loaded.spec.deploy
    commands = [("deploy.entrypoint", deploy.entrypoint)]
    commands += [(f"deploy.pre_exec[{index}]", words) for index, words in enumerate(deploy.pre_exec)]
    for path, words in commands:
        index = script_of(words)
        if index is not None:
            yield f"{path}[{index}]", words[index]


def _optional(loaded: LoadedSpec) -> Iterator[tuple[str, str]]:
    for key, value in loaded.spec.optional:
        path = f"optional.{key}"
        if isinstance(value, str):
            yield path, value
        for index, name in enumerate(value if isinstance(value, tuple) else ()):
            yield f"{path}[{index}]", name
    if loaded.spec.build.lock:
        yield "build.lock", loaded.spec.build.lock


class _ProjectFiles:
    """The files of one project; listed once, and only when a name is missing."""

    def __init__(self, project_dir: Path) -> None:
        self._project = project_dir
        self._program = program_folder(project_dir)

    def fault(self, name: str, *, beside: bool) -> str:
        """What is wrong with a name, or nothing."""
        folders = [self._program, self._project] if beside else [self._program]
        if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts or "\0" in name:
            return f"{quoted(name)} must be a path inside the project"
        for folder in dict.fromkeys(folders):
            state = self._state(folder / name)
            if state != "missing":
                return "" if state == "file" else f"{quoted(name)} {state}"
        where = " or beside deployment.yaml" if beside and self._program != self._project else ""
        return f"there is no {quoted(name)} in {self._folder}{where}{self._suggestion(name)}"

    @property
    def _folder(self) -> str:
        return "nn_model" if self._program != self._project else "the project"

    def _state(self, path: Path) -> str:
        try:
            real = Path(os.path.realpath(path, strict=True))
            if Path(os.path.realpath(self._project)) not in real.parents:
                return "is a link to a place outside the project"
            return "file" if real.is_file() else "is not a file"
        except (FileNotFoundError, NotADirectoryError):
            return "missing"
        except OSError as error:  # links in a circle, no permission, a name too long
            return f"cannot be read: {error.strerror}"

    def _suggestion(self, name: str) -> str:
        same = [path for path in self._listed if PurePosixPath(path).name == PurePosixPath(name).name]
        close = same or difflib.get_close_matches(name, self._listed, n=1, cutoff=0.7)
        return f"; did you mean {quoted(close[0])}?" if close else ""

    @cached_property
    def _listed(self) -> list[str]:
        """Paths relative to the program's folder; links are not followed."""
        walk = os.walk(self._program)
        names = (os.path.relpath(Path(folder, name), self._program) for folder, _, files in walk for name in files)
        return sorted(islice(names, _SEARCHED))


def _finding(loaded: LoadedSpec, path: str, message: str) -> Finding:
    """At the place where the value was written, or its section was."""
    known = path
    while known and known not in loaded.origins:
        known = known[: max(known.rfind("."), known.rfind("["), 0)]
    file, line, column = loaded.origins.get(known, "deployment.yaml:1:1").rsplit(":", 2)
    return Finding(file, int(line), int(column), path, message)
