"""A first deployment.yaml for a project that has none. Pure: what was seen in its folder -> the file's text."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

import yaml
from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import InvalidSpecifier, SpecifierSet

from cloud_manager.survey import STANDARD, Source, Survey

PORT = 8080
_USUAL = ("server.py", "serve.py", "app.py", "main.py", "api.py", "service.py", "run.py", "output.py", "demo.py")
_PACKAGES = {
    "attr": "attrs",
    "bs4": "beautifulsoup4",
    "cv2": "opencv-python-headless",
    "dateutil": "python-dateutil",
    "dotenv": "python-dotenv",
    "faiss": "faiss-cpu",
    "fitz": "pymupdf",
    "google": "",
    "grpc": "grpcio",
    "jwt": "pyjwt",
    "multipart": "python-multipart",
    "onnx": "onnx",
    "PIL": "pillow",
    "psycopg2": "psycopg2-binary",
    "serial": "pyserial",
    "skimage": "scikit-image",
    "sklearn": "scikit-learn",
    "yaml": "pyyaml",
}
"""Names that one imports -> names on the package index, where they differ. Empty: it says nothing."""


@dataclass(frozen=True, slots=True)
class Draft:
    """found: one line for each thing that was seen and used, for the person who asked."""

    text: str
    found: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Packages:
    """lines: python requirements. came: where from, in words."""

    lines: tuple[str, ...] = ()
    lock: str | None = None
    came: str = ""


def draft(seen: Survey, target: str) -> Draft:
    """A file that says what the folder says, and nothing that would be guessed at random."""
    packages, main = _packages(seen), _main(seen.sources)
    python = _python(seen.pyproject)
    entrypoint, extra = _entrypoint(main)
    named = {_name(line) for line in packages.lines}
    libs = [*([f"python=={python}"] if python else []), *packages.lines]
    libs += [name for name in extra if name not in named and not packages.lock]
    text = "\n".join(
        [
            "# This project as a service: `cloud-deploy validate` judges this file, `cloud-deploy schema` tells all.",
            "build:",
            *_build(seen, packages, libs),
            "deploy:",
            f"  type: {_scalar(target)}",
            *_entry_lines(entrypoint),
            *_network(main),
            "  health:",
            "    path: /                    # a GET answered with 2xx-4xx says that the program is up",
            *_optional(seen.weights),
            "",
        ]
    )
    return Draft(text, tuple(_found(seen, packages, main, python)))


# --- what is run ------------------------------------------------------------------------------------------------


def _main(sources: Sequence[Source]) -> Source | None:
    """The file that is most likely the program: it serves, it runs, it has a usual name, it lies on top."""
    return max(sources, key=_likely) if sources else None


def _likely(source: Source) -> tuple[bool, bool, bool, int, int]:
    path = PurePosixPath(source.path)
    usual = -_USUAL.index(path.name) if path.name in _USUAL else -len(_USUAL)
    return source.web_app is not None, source.serves, source.runs, -len(path.parts), usual


def _entrypoint(main: Source | None) -> tuple[list[str], list[str]]:
    """The argv, and packages that it needs besides what the program imports."""
    if main is None:
        return [], []
    if main.runs or main.web_app is None:
        if "streamlit" in main.imports:
            words = ["streamlit", "run", main.path, "--server.address=0.0.0.0", f"--server.port={PORT}"]
            return ["python", "-m", *words], ["streamlit"]
        return [main.path], []
    framework, variable = main.web_app
    module = main.path.removesuffix(".py").replace("/", ".")
    if framework == "flask":
        return ["python", "-m", "gunicorn", f"--bind=0.0.0.0:{PORT}", f"{module}:{variable}"], ["gunicorn"]
    server = ["python", "-m", "uvicorn", "--host=0.0.0.0", f"--port={PORT}", f"{module}:{variable}"]
    return server, ["uvicorn"]


# --- what is installed ------------------------------------------------------------------------------------------


def _packages(seen: Survey) -> _Packages:
    """The first that says it: a lock, requirements.txt, pyproject.toml, the imports."""
    if seen.has_pylock:
        return _Packages(lock="pylock.toml", came="pylock.toml, a lock that is kept as it is")
    if seen.requirements is not None and "--hash=" in seen.requirements:
        return _Packages(lock="requirements.txt", came="requirements.txt, which has hashes and is kept as it is")
    if seen.requirements is not None:
        return _Packages(tuple(_requirement_lines(seen.requirements)), came="requirements.txt")
    declared = tuple(_declared(seen.pyproject))
    if declared:
        return _Packages(declared, came="pyproject.toml")
    imported = tuple(sorted(_imported(seen)))
    return _Packages(imported, came="the imports: mind their names and versions" if imported else "")


def _requirement_lines(text: str) -> Iterator[str]:
    """Without options: https://pip.pypa.io/en/stable/reference/requirements-file-format/"""
    for line in re.sub(r"\\\r?\n", " ", text).splitlines():
        words = " ".join(re.sub(r"(^|\s)#.*$", "", line).split())
        if words and not words.startswith("-") and _is_requirement(words):
            yield words


def _declared(pyproject: str | None) -> Iterator[str]:
    project = _project_table(pyproject)
    dependencies = project.get("dependencies")
    for line in dependencies if isinstance(dependencies, list) else ():
        if isinstance(line, str) and _is_requirement(line):
            yield line


def _imported(seen: Survey) -> Iterator[str]:
    names = {name for source in seen.sources for name in source.imports}
    for name in names - STANDARD - seen.local:
        package = _PACKAGES.get(name, name.replace("_", "-"))
        if package and not name.startswith("_") and _is_requirement(package):
            yield package


def _python(pyproject: str | None) -> str | None:
    """The lowest minor version, from 3.9 on, that `requires-python` allows."""
    try:
        wanted = SpecifierSet(str(_project_table(pyproject).get("requires-python", "")))
    except InvalidSpecifier:
        return None
    minors = [f"3.{minor}" for minor in range(9, 30)]
    return next((minor for minor in minors if wanted.contains(f"{minor}.99")), None) if str(wanted) else None


def _project_table(pyproject: str | None) -> dict[str, object]:
    try:
        table = tomllib.loads(pyproject or "").get("project")
    except tomllib.TOMLDecodeError:
        return {}
    return table if isinstance(table, dict) else {}


def _is_requirement(text: str) -> bool:
    try:
        Requirement(text)
    except InvalidRequirement:
        return False
    return True


def _name(line: str) -> str:
    return Requirement(line).name.lower()


# --- how it is written ------------------------------------------------------------------------------------------


def _build(seen: Survey, packages: _Packages, libs: Sequence[str]) -> list[str]:
    lines = []
    if seen.has_dockerfile:
        lines.append("  # engine: docker             # builds the Dockerfile of this folder instead of what follows")
    if packages.lock:
        lines.append(f"  lock: {_scalar(packages.lock)}")
    written = [f"      - {_scalar(line)}" for line in libs]
    head = ["    libs:                      # python requirements; `python==X.Y` picks the interpreter"]
    return [*lines, "  components:", *(head + written if written else ["    libs: []"])]


def _entry_lines(entrypoint: Sequence[str]) -> list[str]:
    if not entrypoint:
        return ["  entrypoint: [server.py]      # no python file was found: write what is to be run"]
    return [f"  entrypoint: [{', '.join(map(_scalar, entrypoint))}]"]


def _network(main: Source | None) -> list[str]:
    note = "the program finds it in PORT" if main is None or main.runs else "where the program listens"
    return ["  network:", f"    service_container_port: {PORT} # {note}"]


def _optional(weights: Sequence[str]) -> list[str]:
    if not weights:
        return []
    lines = [
        "optional:",
        "  weight_file:                 # in a layer of their own: a change of code does not send them again",
    ]
    return lines + [f"    - {_scalar(path)}" for path in weights]


def _scalar(text: str) -> str:
    """As YAML writes it on one line, in quotes where it must be."""
    written = yaml.safe_dump([text], default_flow_style=True, width=1 << 30, allow_unicode=True)
    return written.strip().removeprefix("[").removesuffix("]")


def _found(seen: Survey, packages: _Packages, main: Source | None, python: str | None) -> Iterator[str]:
    if main is None:
        yield "no python file: write the entrypoint yourself"
    elif main.web_app is not None and not main.runs:
        yield f"the program is {main.path}, an application of {main.web_app[0]}"
    else:
        yield f"the program is {main.path}"
    if packages.came:
        count = f"{len(packages.lines)} packages" if len(packages.lines) != 1 else "1 package"
        yield f"packages from {packages.came}" if packages.lock else f"{count} from {packages.came}"
    if python:
        yield f"python {python} from pyproject.toml"
    if seen.weights:
        yield f"weights: {', '.join(seen.weights[:5])}{' …' if len(seen.weights) > 5 else ''}"
    if seen.has_dockerfile:
        yield "a Dockerfile, which `build.engine` would use"
