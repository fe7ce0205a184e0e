"""What the peers are given: the Dockerfile that most would write, and the one of somebody strong."""

from __future__ import annotations

import shutil
from pathlib import Path

import uv

from bench.images.workload import WEIGHTS, Project

_PROGRAM = "app.py model.py labels.json"
_UV = ".uv"


def write_plain(project: Project, base: str, links: str) -> None:
    """Packages first, for they change least; then the weights, then the program."""
    _write_requirements(project)
    _write(
        project,
        f"FROM {base}",
        "WORKDIR /workspace",
        "COPY requirements.txt .",
        "RUN pip install --no-cache-dir --break-system-packages --root-user-action=ignore "
        f"--no-index --find-links {links} -r requirements.txt",
        f"COPY {WEIGHTS} .",
        f"COPY {_PROGRAM} ./",
        'ENTRYPOINT ["python3", "app.py"]',
    )


def write_tuned(project: Project, base: str, links: str, *, link: bool, cache: str) -> None:
    """uv instead of pip, its cache kept for small packages, the largest in a layer of its own, no bytecode.

    Args:
        link: `COPY --link` is known: what is copied then stands on no layer before it. Without it the weights come
            before the small packages, which are installed again sooner than 200 MB are compressed again.
        cache: name of the cache for uv; a new one is empty.
    """
    _write_requirements(project)
    shutil.copyfile(uv.find_uv_bin(), project.folder / _UV)
    (project.folder / _UV).chmod(0o755)
    tool = f"RUN --mount=type=bind,source={_UV},target=/bin/uv"
    kept = f"--mount=type=cache,target=/root/.cache/uv,id={cache}"
    listed = "--mount=type=bind,source=requirements.txt,target=/requirements.txt"
    install = f"uv pip install --system --break-system-packages --no-index --find-links {links}"
    # Out of a cache that is a mount of its own, the largest would be copied file by file.
    largest = f"{tool} {install} --no-cache {project.requirements[0]}"
    packages = f"{tool} {kept} {listed} {install} --link-mode=copy -r /requirements.txt"
    weights = f"COPY {'--link ' if link else ''}{WEIGHTS} /workspace/"
    _write(
        project,
        f"FROM {base}",
        "WORKDIR /workspace",
        largest,
        *((packages, weights) if link else (weights, packages)),
        f"COPY {'--link ' if link else ''}{_PROGRAM} /workspace/",
        'ENTRYPOINT ["python3", "app.py"]',
    )


def _write_requirements(project: Project) -> None:
    _write_if_other(project.folder / "requirements.txt", "".join(f"{line}\n" for line in project.requirements))


def _write(project: Project, *lines: str) -> None:
    _write_if_other(project.folder / "Dockerfile", "".join(f"{line}\n" for line in lines))


def _write_if_other(path: Path, text: str) -> None:
    """Its time stays, too: builders look at it."""
    if not path.exists() or path.read_text() != text:
        path.write_text(text)
