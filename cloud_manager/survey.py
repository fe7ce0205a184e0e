"""What a project's folder says about itself: the look that `cloud-deploy init` takes. Nothing is run or imported."""

from __future__ import annotations

import ast
import os
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path, PurePosixPath

from cloud_manager.project_files import program_folder

_LOOKED_AT = 5_000
"""Files; a data set may hold millions."""
_READ = 300
"""Python files that are parsed."""
_LARGEST = 1 << 20
_SKIPPED = frozenset({"__pycache__", "node_modules", "venv", "env", "site-packages", "tests", "test"})
_WEIGHTS = frozenset(
    (".pt", ".pth", ".onnx", ".safetensors", ".h5", ".keras", ".tflite", ".pb", ".engine", ".gguf", ".joblib", ".pkl")
)
_WEB_APPS = {"FastAPI": "fastapi", "Starlette": "starlette", "Flask": "flask"}
_SERVERS = frozenset(
    (*_WEB_APPS.values(), "uvicorn", "gradio", "streamlit", "tornado", "aiohttp", "http", "bottle", "litserve", "grpc")
)
_STARTERS = frozenset(("run", "run_app", "serve", "serve_forever", "launch", "main", "start"))


@dataclass(frozen=True, slots=True)
class Source:
    """One python file of the program.

    imports: top-level names, e.g. `torch`.
    web_app: (framework, variable) of an application object made at the top level, e.g. `("fastapi", "app")`.
    runs: it does something when it is run: it has an `if __name__ == "__main__"`, or starts something at its top level.
    """

    path: str
    imports: frozenset[str] = frozenset()
    web_app: tuple[str, str] | None = None
    runs: bool = False

    @property
    def serves(self) -> bool:
        return bool(self.imports & _SERVERS)


@dataclass(frozen=True, slots=True)
class Survey:
    """Paths are relative to the program's folder. The texts of files are as they are, None where there is no such file.

    local: names that an import finds in the folder itself.
    """

    sources: tuple[Source, ...] = ()
    weights: tuple[str, ...] = ()
    local: frozenset[str] = frozenset()
    requirements: str | None = None
    pyproject: str | None = None
    has_pylock: bool = False
    has_dockerfile: bool = False


def survey(project: Path) -> Survey:
    """Look at a project's folder, for some tenths of a second at most.

    Raises:
        OSError: the folder cannot be listed.
    """
    folder = program_folder(project)
    next(folder.iterdir(), None)  # os.walk says nothing of a folder that it cannot list
    paths = sorted(islice(_paths(folder), _LOOKED_AT))
    python = [path for path in paths if path.endswith(".py")]
    return Survey(
        sources=tuple(source for path in python[:_READ] if (source := _source(folder, path)) is not None),
        weights=tuple(path for path in paths if PurePosixPath(path).suffix.lower() in _WEIGHTS),
        local=frozenset(_local(paths)),
        requirements=_text(_first(folder, project, "requirements.txt")),
        pyproject=_text(_first(folder, project, "pyproject.toml")),
        has_pylock=_first(folder, project, "pylock.toml") is not None,
        has_dockerfile=(folder / "Dockerfile").is_file(),
    )


def _paths(folder: Path) -> Iterator[str]:
    for place, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith(".") and name not in _SKIPPED)
        for name in files:
            yield Path(place, name).relative_to(folder).as_posix()


def _local(paths: Iterable[str]) -> Iterator[str]:
    for path in paths:
        first, *rest = path.split("/")
        if rest:
            yield first
        elif first.endswith(".py"):
            yield first.removesuffix(".py")


def _first(folder: Path, project: Path, name: str) -> Path | None:
    return next((place / name for place in (folder, project) if (place / name).is_file()), None)


def _text(path: Path | None) -> str | None:
    if path is None or path.stat().st_size > _LARGEST:
        return None
    return path.read_text(encoding="utf-8-sig", errors="replace")


def _source(folder: Path, path: str) -> Source | None:
    """None for what python cannot read, e.g. a file for python 2."""
    try:
        tree = ast.parse(_text(folder / path) or "")
    except (SyntaxError, ValueError, RecursionError, OSError):
        return None
    return source_of(path, tree)


def source_of(path: str, tree: ast.Module) -> Source:
    """Pure: what a parsed file is."""
    web_app = next((found for statement in tree.body if (found := _web_app(statement)) is not None), None)
    runs = any(_runs(statement) for statement in tree.body)
    return Source(path, frozenset(_imports(tree)), web_app, runs)


def _imports(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.partition(".")[0]


def _web_app(statement: ast.stmt) -> tuple[str, str] | None:
    """`app = FastAPI(…)` or `app: Flask = flask.Flask(…)`"""
    if isinstance(statement, ast.Assign) and len(statement.targets) == 1:
        target, value = statement.targets[0], statement.value
    elif isinstance(statement, ast.AnnAssign) and statement.value is not None:
        target, value = statement.target, statement.value
    else:
        return None
    if not (isinstance(target, ast.Name) and isinstance(value, ast.Call)):
        return None
    framework = _WEB_APPS.get(_called(value))
    return (framework, target.id) if framework else None


def _runs(statement: ast.stmt) -> bool:
    if isinstance(statement, ast.If):
        return "__main__" in {node.value for node in ast.walk(statement.test) if isinstance(node, ast.Constant)}
    if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Call):
        return _called(statement.value) in _STARTERS
    return False


def _called(call: ast.Call) -> str:
    """The last name of what is called: `run` of `uvicorn.run(app)`."""
    return call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")


STANDARD = sys.stdlib_module_names
