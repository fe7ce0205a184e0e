"""The host's pip settings, in uv's words: uv does not read pip's configuration.

https://pip.pypa.io/en/stable/topics/configuration/ and https://docs.astral.sh/uv/reference/environment/
"""

from __future__ import annotations

import ast
import os
import sys
from collections.abc import Mapping
from pathlib import Path

from image_builder.work import run

_UV_NAMES = {
    "index-url": "UV_DEFAULT_INDEX",
    "extra-index-url": "UV_INDEX",
    "find-links": "UV_FIND_LINKS",
    "no-index": "UV_NO_INDEX",
    "trusted-host": "UV_INSECURE_HOST",
    "timeout": "UV_HTTP_TIMEOUT",
    "default-timeout": "UV_HTTP_TIMEOUT",
    "proxy": "ALL_PROXY",
    "cert": "SSL_CERT_FILE",
}
_OLDER_NAMES = {"UV_DEFAULT_INDEX": "UV_INDEX_URL", "UV_INDEX": "UV_EXTRA_INDEX_URL"}
_PRECEDENCE = ("global", "install", "download", ":env:")
"""Sections of `pip config list`; later ones win."""
_CA_NAMES = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "PIP_CERT")

INDEX_NAMES = (
    "UV_DEFAULT_INDEX",
    "UV_INDEX",
    "UV_INDEX_URL",
    "UV_EXTRA_INDEX_URL",
    "UV_FIND_LINKS",
    "UV_NO_INDEX",
    "UV_INDEX_STRATEGY",
    "UV_TORCH_BACKEND",
    "UV_PRERELEASE",
    "UV_EXCLUDE_NEWER",
)
"""Settings on which it depends what is found: a lock made with others is another lock."""


class PipSettings:
    """The environment for uv: the host's own, plus pip's settings where uv has none.

    pip is asked again once a configuration file of its has changed, so that a mended one serves without a restart.
    """

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ
        self._known: dict[str, str] | None = None
        self._files: dict[Path, _Stamp] = {}

    async def environment(self) -> dict[str, str]:
        if self._environ.get("PIP_CONFIG_FILE") == os.devnull:  # pip's word for: no files. Asking takes a second.
            return merged(self._environ, from_environment(self._environ))
        # Without files pip is not there, or one of them is broken, and then it does not say which.
        changed = not self._files or any(_stamp(path) != stamp for path, stamp in self._files.items())
        if self._known is None or changed:
            # First the stamps: what changes while pip reads is read again.
            self._files = {path: _stamp(path) for path in parse_config_debug(await _asked("debug", self._environ))}
            pip = parse_config_list(await _asked("list", self._environ))
            self._known = merged(self._environ, {**pip, **from_environment(self._environ)})
        return self._known


_Stamp = tuple[int, int] | None


def _stamp(path: Path) -> _Stamp:
    try:
        found = path.stat()
    except OSError:
        return None  # not there, or not for us: neither is it for pip
    return found.st_mtime_ns, found.st_size


async def _asked(what: str, environ: Mapping[str, str]) -> str:
    """What `pip config …` says; nothing where there is no pip."""
    try:
        done = await run([sys.executable, "-m", "pip", "config", what], environ, Path.cwd(), seconds=30)
    except (TimeoutError, OSError):
        return ""
    return done.output if done.code == 0 else ""


def parse_config_debug(text: str) -> list[Path]:
    """The files that `pip config debug` says it looks for: `  /etc/pip.conf, exists: True`. Pure."""
    rows = (line.strip().rpartition(", exists: ") for line in text.splitlines())
    return [Path(path) for path, separator, _ in rows if separator]


def parse_config_list(text: str) -> dict[str, str]:
    """`global.index-url='…'` lines to option -> value. Pure."""
    found: dict[str, dict[str, str]] = {section: {} for section in _PRECEDENCE}
    for line in text.splitlines():
        name, separator, value = line.partition("=")
        section, _, option = name.rpartition(".")
        if separator and section in found:
            found[section][option] = _unquoted(value)
    return {option: value for section in _PRECEDENCE for option, value in found[section].items()}


def from_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """`PIP_INDEX_URL` and its kind to option -> value."""
    prefix = "PIP_"
    return {
        name.removeprefix(prefix).lower().replace("_", "-"): value
        for name, value in environ.items()
        if name.startswith(prefix) and value
    }


def merged(environ: Mapping[str, str], pip: Mapping[str, str]) -> dict[str, str]:
    """`environ` with pip's options under uv's names; what is set for uv already stays. Pure."""
    result = dict(environ)
    for option, name in _UV_NAMES.items():
        value = " ".join(pip.get(option, "").split())
        older = _OLDER_NAMES.get(name, name)
        if value and name not in environ and older not in environ:
            # uv separates find-links by commas, the others by spaces.
            result[name] = value.replace(" ", ",") if name == "UV_FIND_LINKS" else value
            if name == "UV_INDEX":
                # pip takes the best version from any index; uv would stop at the first that has the name.
                result.setdefault("UV_INDEX_STRATEGY", "unsafe-best-match")
    bundle = ca_bundle(result)
    if bundle:
        result.setdefault("SSL_CERT_FILE", bundle)
    return result


def ca_bundle(environ: Mapping[str, str]) -> str | None:
    """The file or folder of trusted certificates, by the usual variables."""
    return next((environ[name] for name in _CA_NAMES if environ.get(name)), None)


def _unquoted(value: str) -> str:
    try:
        return str(ast.literal_eval(value.strip()))
    except (ValueError, SyntaxError):
        return value.strip()
