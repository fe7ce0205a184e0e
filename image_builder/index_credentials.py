"""Names and passwords that stand in the addresses of package indexes: used for downloads, never kept or shown."""

from __future__ import annotations

import contextlib
import logging
import re
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import unquote, urlsplit
from urllib.request import url2pathname

import httpx

_log = logging.getLogger(__name__)
_SPACED = ("UV_INDEX", "UV_EXTRA_INDEX_URL", "UV_DEFAULT_INDEX", "UV_INDEX_URL")
_WITH_USER = re.compile(r"(https?://)[^/\s\"'@]+@")


def index_credentials(environ: Mapping[str, str]) -> dict[str, httpx.BasicAuth]:
    """host[:port] -> credentials that stand in the addresses of the indexes. Pure."""
    found: dict[str, httpx.BasicAuth] = {}
    for url in _addresses(environ):
        auth = basic_auth(url)
        if auth is not None:
            found[urlsplit(url).netloc.rpartition("@")[2]] = auth
    return found


def local_folders(environ: Mapping[str, str]) -> list[Path]:
    """Real paths of the indexes and find-links that are folders of this machine."""
    places = ((address, urlsplit(address)) for address in _addresses(environ))
    return [
        Path(url2pathname(parts.path) if parts.scheme else address).resolve()
        for address, parts in places
        if address and parts.scheme in ("", "file")
    ]


def _addresses(environ: Mapping[str, str]) -> list[str]:
    """Of indexes, without the names that they may have (`name=address`), and of find-links."""
    words = [word for name in _SPACED for word in environ.get(name, "").split()]
    words += environ.get("UV_FIND_LINKS", "").split(",")
    return [word.partition("=")[2] if "=" in word.partition("://")[0] else word for word in words]


def basic_auth(url: str) -> httpx.BasicAuth | None:
    """The credentials that stand in an address."""
    parts = urlsplit(url)
    if parts.username is None:
        return None
    return httpx.BasicAuth(unquote(parts.username), unquote(parts.password or ""))


def without_credentials(text: str, environ: Mapping[str, str]) -> str:
    """A text in which the addresses on the indexes' hosts have lost theirs; `index_credentials` has them. Pure."""
    for host in index_credentials(environ):
        text = re.sub(rf"(https?://)[^/\s\"']*@(?={re.escape(host)}(?![\w.:-]))", r"\1", text)
    return text


def forget_open_locks(locks: Path) -> None:
    """Locks in which an older version left credentials are made anew. Blocking."""
    for path in locks.glob("*.toml"):
        with contextlib.suppress(FileNotFoundError):  # cleared by another builder
            if _WITH_USER.search(path.read_text(encoding="utf-8", errors="replace")):
                _log.info("a lock with credentials in it is made anew: %s", path.name)
                path.unlink(missing_ok=True)
