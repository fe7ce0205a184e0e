"""The program uv, called so that nothing but the host's settings and what is asked for has a say."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import uv

from image_builder.contract import BuildRequest
from image_builder.errors import BuildError
from image_builder.index_credentials import without_credentials
from image_builder.resolver_words import failure
from image_builder.work import run

_SECONDS = 600
_PASSED_ON = re.compile(
    r"PATH|HOME|USER|LOGNAME|SHELL|LANG|LC_\w+|TZ|TMPDIR|XDG_\w+_HOME|NETRC|(?i:(https?|all|no|ftp)_proxy)|"
    r"SSL_CERT_(FILE|DIR)|SSL_CLIENT_CERT|REQUESTS_CA_BUNDLE|CURL_CA_BUNDLE|PIP_CERT|PIP_CONFIG_FILE|UV_\w+|"
    r"SOURCE_DATE_EPOCH|CC|CXX|CPP|FC|AR|LD|NM|RANLIB|STRIP|(C|CPP|CXX|F|LD|RUST)FLAGS|(C|LD_|LD_LIBRARY_|LIBRARY_)PATH|"
    r"(C|CPLUS)_INCLUDE_PATH|PKG_CONFIG_\w+|CMAKE_\w+|CUDA_(HOME|PATH)|CUDACXX|MAX_JOBS|MAKEFLAGS|MAKE|NINJAFLAGS|"
    r"CARGO_HOME|RUSTUP_HOME|RUSTC|JAVA_HOME|SETUPTOOLS_\w+|MACOSX_DEPLOYMENT_TARGET|SDKROOT|DEVELOPER_DIR"
)


async def compile_lines(
    lines: Sequence[str],
    request: BuildRequest,
    environ: Mapping[str, str],
    log: Callable[[str], None],
    options: Sequence[str],
) -> str:
    """A pylock.toml for requirement lines, for the request's python. options: of uv, the platform among them.

    Raises:
        BuildError: uv's reason, with the line of the request's requirement that it is about.
    """
    argv = [
        uv_program(), "pip", "compile", "-", "--format", "pylock.toml", "--no-header", "--no-progress",
        "--python-version", request.python, *options, *index_options(environ),
    ]  # fmt: skip
    # An empty folder: no pyproject.toml or uv.toml of a project may have a say.
    with tempfile.TemporaryDirectory(prefix="cloud-deploy-") as folder:
        text = "".join(f"{line}\n" for line in lines)
        done = await run(argv, uv_environ(environ), Path(folder), data=text, seconds=_SECONDS)
    output, errors = (without_credentials(text, environ) for text in (done.output, done.errors))
    if done.code != 0:
        raise failure(errors, request.requirements)
    for line in errors.splitlines():
        log(f"uv: {line.strip()}")
    return output


def uv_environ(environ: Mapping[str, str]) -> dict[str, str]:
    """What uv needs, and what a compiler may: uv hands it on to whatever a source package runs to build itself, which
    the builder's other settings (logins of clouds, databases, registries) are no business of.
    """
    kept = {name: value for name, value in environ.items() if _PASSED_ON.fullmatch(name)}
    return {**kept, "UV_PYTHON_DOWNLOADS": "never", "NO_COLOR": "1"}


def index_options(environ: Mapping[str, str]) -> list[str]:
    """UV_NO_INDEX is our word: uv itself has no variable for it."""
    return ["--no-index"] if environ.get("UV_NO_INDEX", "").lower() in ("1", "true", "yes", "on") else []


def uv_program() -> str:
    try:
        return uv.find_uv_bin()
    except FileNotFoundError as error:
        raise BuildError(
            "the resolver uv is not installed", "Run: pip install uv, where the image builder runs.", code="uv_missing"
        ) from error
