"""Python requirements become a lock: exact wheels with hashes, by uv, for the target's python and platform."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

import uv

from image_builder.contract import BuildRequest
from image_builder.disk import write_whole
from image_builder.errors import BuildError, ResolveFailed
from image_builder.index_credentials import without_credentials
from image_builder.lock import Lock, cuda_parts, read_lock, uv_platform
from image_builder.pip_settings import INDEX_NAMES
from image_builder.plan import check_requirement
from image_builder.resolver_words import failure
from image_builder.work import in_thread, run

_FORMAT = 1
_SECONDS = 600
_HEADER = 'lock-version = "1.0"\ncreated-by = "cloud-deploy"\npackages = []\n'


async def resolve(request: BuildRequest, locks: Path, environ: Mapping[str, str], log: Callable[[str], None]) -> Lock:
    """The lock of a request: the one kept in `locks` if the same was asked before, else a new one.

    Args:
        environ: as `pip_settings.resolver_environment` gives it.

    Raises:
        ResolveFailed: names the requirement and its line.
    """
    if not request.requirements:
        return read_lock(_HEADER, request.platform, request.python)
    path = locks / f"{lock_key(request, environ)}.toml"
    if path.exists():
        log("requirements are unchanged: the lock made before is used")
        return read_lock(path.read_text(encoding="utf-8"), request.platform, request.python)
    lock = await _resolve_for_accelerator(request, environ, log)
    await in_thread(lambda _: write_whole(path, lock.text.encode()))
    return lock


def forget(request: BuildRequest, locks: Path, environ: Mapping[str, str]) -> None:
    """Drop the lock kept for a request, so that it is resolved anew."""
    (locks / f"{lock_key(request, environ)}.toml").unlink(missing_ok=True)


def lock_key(request: BuildRequest, environ: Mapping[str, str]) -> str:
    """64 hex digits over all that a lock depends on, besides what the indexes hold on that day. Pure."""
    parts = {
        "format": _FORMAT,
        "requirements": _lines(request),
        "platform": request.platform,
        "python": request.python,
        "accelerator": request.accelerator,
        "indexes": {name: environ[name] for name in INDEX_NAMES if environ.get(name)},
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


async def _resolve_for_accelerator(
    request: BuildRequest, environ: Mapping[str, str], log: Callable[[str], None]
) -> Lock:
    """With `accelerator: cpu` a lock without CUDA, which torch's plain wheels would drag in, or an error."""
    lock = await _compile(request, environ, log)
    asked = [check_requirement(requirement).name for requirement in request.requirements]
    if request.accelerator != "cpu" or not (found := cuda_parts(lock, asked)):
        return lock
    log(f"left out for accelerator: cpu: {', '.join(found)}")
    try:
        lock = await _compile(request, environ, log, "--torch-backend", "cpu")
    except ResolveFailed as error:
        raise _no_cpu_torch(found, error.problem.cause) from error
    if found := cuda_parts(lock, asked):
        raise _no_cpu_torch(found, "the index for CPU wheels has none that fits")
    return lock


async def _compile(
    request: BuildRequest, environ: Mapping[str, str], log: Callable[[str], None], *options: str
) -> Lock:
    argv = [
        _uv_program(), "pip", "compile", "-", "--format", "pylock.toml", "--no-header", "--no-progress",
        "--only-binary", ":all:", "--python-version", request.python,
        "--python-platform", uv_platform(request.platform), *options,
    ]  # fmt: skip
    if environ.get("UV_NO_INDEX", "").lower() in ("1", "true", "yes", "on"):
        argv.append("--no-index")  # our word: uv itself has no variable for it
    # An empty folder: no pyproject.toml or uv.toml of a project may have a say.
    with tempfile.TemporaryDirectory(prefix="cloud-deploy-") as folder:
        done = await run(
            argv,
            {**environ, "UV_PYTHON_DOWNLOADS": "never", "NO_COLOR": "1"},
            Path(folder),
            data="\n".join(_lines(request)) + "\n",
            seconds=_SECONDS,
        )
    output, errors = (without_credentials(text, environ) for text in (done.output, done.errors))
    if done.code != 0:
        raise failure(errors, request.requirements)
    for line in errors.splitlines():
        log(f"uv: {line.strip()}")
    return read_lock(output, request.platform, request.python)


def _lines(request: BuildRequest) -> list[str]:
    """As parsed and written again: nothing but a requirement can reach uv, whatever the text held."""
    return sorted({str(check_requirement(requirement)) for requirement in request.requirements})


def _uv_program() -> str:
    try:
        return uv.find_uv_bin()
    except FileNotFoundError as error:
        raise BuildError(
            "the resolver uv is not installed", "Run: pip install uv, where the image builder runs.", code="uv_missing"
        ) from error


def _no_cpu_torch(found: list[str], reason: str) -> ResolveFailed:
    return ResolveFailed(
        f"accelerator is cpu, yet only CUDA packages were found ({', '.join(found[:5])}): {reason}",
        "Set find-links (PIP_FIND_LINKS or UV_FIND_LINKS) to a folder or page with a CPU wheel, or accelerator: gpu.",
        code="cpu_torch_unavailable",
    )
