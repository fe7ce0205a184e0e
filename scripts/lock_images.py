"""Write what the container images install, pinned by version and hash: `python scripts/lock_images.py`.

pyproject.toml is what counts. A package that only one of the two services imports is left out of the other's image;
one that is not named here is in both. `--check` writes nothing and says whether the locks serve pyproject.toml.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "docker"
BUILDER_ALONE = {
    "cyclonedx-python-lib",
    "google-cloud-build",
    "google-cloud-storage",
    "installer",
    "isal",
    "itsdangerous",
    "jinja2",
    "markupsafe",
    "pathspec",
    "squarify",
    "uv",
}
MANAGER_ALONE = {
    "aiodocker",
    "aiohttp",
    "aiosqlite",
    "alembic",
    "google-cloud-logging",
    "google-cloud-run",
    "greenlet",
    "pyyaml",
    "rich",
    "sqlalchemy",
    "typer",
}
EMULATOR_USES = {"fastapi", "httpx", "psutil", "pydantic", "uvicorn"}
"""Of the product's own requirements, besides its extra."""
MORE = {"manager": ["httptools", "uvloop"], "builder": ["httptools"]}
"""Of uvicorn[standard], what each uses: its reloader and its WebSockets are not wanted in a container."""
EXTRAS: dict[str, tuple[str, ...]] = {"manager": ("gcp", "postgres"), "builder": ("gcp",)}
_PIN = re.compile(r"^([\w.-]+)(?:\[[\w,-]+\])?==([\w.+!-]+)", re.MULTILINE)


def main(arguments: list[str]) -> int:
    if "--check" in arguments:
        finds = [find for name in wishes() for find in judge(name)]
        sys.stdout.write("".join(f"{find}\n" for find in finds))
        return 1 if finds else 0
    for name, requirements in wishes().items():
        lock(FOLDER / f"{name}.lock", requirements)
    return 0


def wishes() -> dict[str, list[str]]:
    """Lock -> requirements: of the two services, of the twin of Google, and of the stage that builds."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    every, extras = project["project"]["dependencies"], project["project"]["optional-dependencies"]
    left_out = {"manager": BUILDER_ALONE, "builder": MANAGER_ALONE}
    found = {
        name: [line.replace("uvicorn[standard]", "uvicorn") for line in every if name_of(line) not in left_out[name]]
        + MORE[name]
        + [line for extra in EXTRAS[name] for line in extras[extra] if name_of(line) not in left_out[name]]
        for name in left_out
    }
    uv = [line for line in every if name_of(line) == "uv"]
    emulator = [line.replace("uvicorn[standard]", "uvicorn") for line in every if name_of(line) in EMULATOR_USES]
    found["emulator"] = emulator + extras["emulator"]
    return found | {"tools": project["build-system"]["requires"] + uv}


def name_of(line: str) -> str:
    return canonicalize_name(Requirement(line).name)


def judge(name: str) -> Iterator[str]:
    """What pyproject.toml wants and the lock does not have."""
    pins = {canonicalize_name(found): version for found, version in _PIN.findall((FOLDER / f"{name}.lock").read_text())}
    for line in wishes()[name]:
        wanted = Requirement(line)
        pin = pins.get(name_of(line))
        if pin is None or not wanted.specifier.contains(pin, prereleases=True):
            yield f"docker/{name}.lock: {line} is wanted, {pin or 'nothing'} is pinned; run: make lock"


def lock(path: Path, requirements: list[str]) -> None:
    """For every platform and every python that pyproject.toml allows. No index is written into it."""
    uv = Path(sys.executable).with_name("uv")
    options = ["--universal", "--python-version", "3.11", "--generate-hashes", "--no-header", "--no-annotate"]
    command = [str(uv), "pip", "compile", "-", "--quiet", "--no-config", *options, "--output-file", str(path)]
    subprocess.run(command, input="\n".join(requirements), check=True, text=True, cwd=FOLDER, stdout=subprocess.DEVNULL)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
