"""Wheels are downloaded once, verified by their sha256, and kept by it."""

from __future__ import annotations

import asyncio
import hashlib
import netrc
import random
from collections.abc import Awaitable, Callable, Collection, Mapping
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

import httpx

from image_builder.disk import PartialFile, sweep
from image_builder.errors import FetchFailed
from image_builder.file_hashes import FileHashes
from image_builder.index_credentials import basic_auth, index_credentials
from image_builder.lock import PinnedWheel
from image_builder.making import Making
from image_builder.network import HEADERS, TIMEOUT, trust
from image_builder.work import StopFlag, each, in_thread

_AT_A_TIME = 4
_ATTEMPTS = 5
_CHUNK = 1 << 20
_LONGEST_WAIT = 60.0
_SIZE_MAX = 16 << 30
_AGAIN = frozenset({408, 425, 429, 500, 502, 503, 504})
_NO_REST = frozenset({206, 416})
"""Not the rest that was asked for: the next attempt asks for the whole."""

Progress = Callable[[PinnedWheel, int], None]
"""Told the number of bytes of a wheel that are here."""


class WheelStore:
    """Wheels by sha256 in one folder. Those that lie on this machine anyway (`file://`) are used where they are."""

    def __init__(
        self,
        folder: Path,
        hashes: FileHashes,
        use: Callable[[Path], None] = lambda _: None,
        making: Making | None = None,
    ) -> None:
        """use: told of a file before it is asked for, so that it stays (see `leases.py`). making: as for layers."""
        self._folder = folder
        self._hashes = hashes
        self._use = use
        self._slots = asyncio.Semaphore(_AT_A_TIME)
        self._making = making or Making()

    def prepare(self) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        sweep(self._folder)

    def path(self, wheel: PinnedWheel) -> Path:
        return _local_path(wheel.url) or self._folder / f"{wheel.sha256}.whl"

    def size(self, wheel: PinnedWheel) -> int | None:
        """Bytes of a wheel that is here, else None."""
        path = self.path(wheel)
        if path.parent == self._folder:
            self._use(path)
        try:
            return path.stat().st_size
        except FileNotFoundError:
            return None

    def keep(self, file: Path, flag: StopFlag) -> tuple[str, int]:
        """Take in a wheel made here; its sha256 and size. Blocking."""
        digest, size = hashlib.sha256(), 0
        with file.open("rb") as data, PartialFile(self._folder, expected=file.stat().st_size) as partial:
            while chunk := data.read(_CHUNK):
                flag.check()
                _store(partial, digest, chunk, flag)
                size += len(chunk)
            self._use(self._folder / f"{digest.hexdigest()}.whl")
            partial.move_to(f"{digest.hexdigest()}.whl")
        return digest.hexdigest(), size

    async def fetch(
        self,
        wheels: Collection[PinnedWheel],
        environ: Mapping[str, str],
        progress: Progress,
        *,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """Make sure that all wheels are here, whole and right; some at a time.

        Args:
            environ: as `PipSettings.environment` gives it: credentials of the indexes, CA bundle.

        Raises:
            FetchFailed: retryable for trouble with the network or the server.
            DiskFull
        """
        missing = []
        for wheel in wheels:
            if _local_path(wheel.url) is not None:
                await self._check_local(wheel)
            elif self.size(wheel) is None:
                missing.append(wheel)
                continue
            progress(wheel, self.size(wheel) or 0)
        if missing:
            async with _client(environ) as client:
                download = _Download(client, index_credentials(environ), self._folder, progress, sleep)
                await each(self._once(wheel, download, progress) for wheel in missing)

    async def _once(self, wheel: PinnedWheel, download: _Download, progress: Progress) -> None:
        """Two builds that need the same wheel download it once."""
        async with self._making(f"wheel {wheel.sha256}"):
            size = self.size(wheel)
            if size is None:
                async with self._slots:
                    await download.one(wheel)
            else:
                progress(wheel, size)

    async def _check_local(self, wheel: PinnedWheel) -> None:
        path = self.path(wheel)
        try:
            found = await in_thread(lambda flag: self._hashes.sha256(path.resolve(), flag))
        except OSError as error:
            raise FetchFailed(
                f"cannot read the wheel {path}: {error.strerror or error}",
                "See that the folder of find-links, or the file index, is complete and readable.",
                retryable=False,
            ) from error
        if found != wheel.sha256:
            raise _wrong_digest(wheel, str(path))


class _Download:
    def __init__(
        self,
        client: httpx.AsyncClient,
        credentials: Mapping[str, httpx.BasicAuth],
        folder: Path,
        progress: Progress,
        sleep: Callable[[float], Awaitable[None]],
    ) -> None:
        self._client = client
        self._credentials = credentials
        self._folder = folder
        self._progress = progress
        self._sleep = sleep

    async def one(self, wheel: PinnedWheel) -> None:
        with PartialFile(self._folder, expected=wheel.size or 0) as file:
            begun = _Begun(file)
            for attempt in range(1, _ATTEMPTS + 1):
                try:
                    await self._attempt(wheel, begun)
                    break
                except (httpx.HTTPError, FetchFailed) as error:
                    if isinstance(error, FetchFailed) and not error.problem.retryable:
                        raise
                    if attempt == _ATTEMPTS:
                        raise _given_up(wheel, error) from error
                    await self._sleep(_pause(attempt, error))
            await in_thread(lambda _: file.move_to(f"{wheel.sha256}.whl"))

    async def _attempt(self, wheel: PinnedWheel, begun: _Begun) -> None:
        limit = wheel.size or _SIZE_MAX
        async with self._client.stream("GET", wheel.url, auth=self._auth(wheel.url), headers=begun.range) as answer:
            resumed = begun.goes_on(answer)
            if not resumed:
                begun.restart(answer)
                _check_answer(wheel, answer)
            async for chunk in answer.aiter_bytes(_CHUNK):
                await in_thread(partial(begun.add, chunk))
                if begun.size > limit:
                    raise _too_large(wheel, limit)
                self._progress(wheel, begun.size)
        if begun.digest.hexdigest() != wheel.sha256:
            begun.restart()
            # Two halves of different files: the next attempt takes the whole.
            raise _wrong_digest(wheel, _shown(wheel.url), retryable=resumed)

    def _auth(self, url: str) -> httpx.Auth | httpx._client.UseClientDefault:
        """The address's own credentials, else those of an index on the same host, else ~/.netrc."""
        own = basic_auth(url)
        return own or self._credentials.get(urlsplit(url).netloc) or httpx.USE_CLIENT_DEFAULT


class _Begun:
    """What has come of a file so far; a broken download goes on from there.

    https://www.rfc-editor.org/rfc/rfc9110#name-range-requests
    """

    def __init__(self, file: PartialFile) -> None:
        self._file = file
        self._etag = ""
        self.size = 0
        self.digest = hashlib.sha256()

    @property
    def range(self) -> dict[str, str]:
        """Headers that ask for the rest, of the same file as before. A weak tag promises nothing about bytes."""
        if not self.size:
            return {}
        same = {"If-Range": self._etag} if self._etag.startswith('"') else {}
        return {"Range": f"bytes={self.size}-", **same}

    def goes_on(self, answer: httpx.Response) -> bool:
        """True if the answer is the rest that was asked for."""
        partial_content = answer.status_code == httpx.codes.PARTIAL_CONTENT
        return partial_content and answer.headers.get("Content-Range", "").startswith(f"bytes {self.size}-")

    def restart(self, answer: httpx.Response | None = None) -> None:
        """answer: which begins the file anew; a server's refusal for the moment leaves what is here."""
        if answer is not None and answer.status_code in _AGAIN:
            return
        self._etag = answer.headers.get("ETag", "") if answer is not None else ""
        self._file.restart()
        self.size, self.digest = 0, hashlib.sha256()

    def add(self, chunk: bytes, flag: StopFlag) -> None:
        _store(self._file, self.digest, chunk, flag)
        self.size += len(chunk)


def _store(file: PartialFile, digest: hashlib._Hash, chunk: bytes, _flag: StopFlag) -> None:
    file.write(chunk)
    digest.update(chunk)


def _client(environ: Mapping[str, str]) -> httpx.AsyncClient:
    return httpx.AsyncClient(
        verify=trust(environ),
        auth=_netrc(),
        timeout=TIMEOUT,
        follow_redirects=True,
        headers=HEADERS,
    )


def _netrc() -> httpx.NetRCAuth | None:
    try:
        return httpx.NetRCAuth()
    except (OSError, netrc.NetrcParseError):
        return None  # none there, or not for us


def _check_answer(wheel: PinnedWheel, answer: httpx.Response) -> None:
    if answer.status_code == httpx.codes.OK:
        return
    again = answer.status_code in _AGAIN | _NO_REST
    error = FetchFailed(
        f"{answer.status_code} {answer.reason_phrase} for {_shown(wheel.url)}",
        "It is tried again by itself." if again else "Check the package index and the credentials for it.",
        retryable=again,
    )
    error.__cause__ = _Wait(answer.headers.get("Retry-After", "")) if again else None
    raise error


class _Wait(Exception):
    """What the server asks for: seconds, or empty."""


def _pause(attempt: int, error: Exception) -> float:
    """Seconds before the next attempt: what the server asks, else 0.5, 1, 2 … with jitter."""
    asked = str(error.__cause__) if isinstance(error.__cause__, _Wait) else ""
    if asked.isdigit():
        return min(float(asked), _LONGEST_WAIT)
    return 0.5 * 2.0 ** (attempt - 1) * random.uniform(0.75, 1.25)  # noqa: S311 - jitter, not a secret


def _given_up(wheel: PinnedWheel, error: Exception) -> FetchFailed:
    reason = error.problem.cause if isinstance(error, FetchFailed) else (str(error) or type(error).__name__)
    return FetchFailed(
        f"{wheel.filename} could not be downloaded after {_ATTEMPTS} attempts: {reason}",
        "It is tried again by itself; see to the network or the proxy if it lasts.",
    )


def _too_large(wheel: PinnedWheel, limit: int) -> FetchFailed:
    return FetchFailed(
        f"{wheel.filename} is larger than the {limit} bytes that the index says",
        "Tell the keepers of the package index.",
        code="digest_mismatch",
        retryable=False,
    )


def _wrong_digest(wheel: PinnedWheel, where: str, *, retryable: bool = False) -> FetchFailed:
    return FetchFailed(
        f"{where} is not the {wheel.filename} that the lock names (its sha256 differs)",
        "Tell the keepers of the package index, or start it again once the file is right.",
        code="digest_mismatch",
        retryable=retryable,
    )


def _local_path(url: str) -> Path | None:
    parts = urlsplit(url)
    return Path(url2pathname(parts.path)) if parts.scheme == "file" else None


def _shown(url: str) -> str:
    """Without credentials."""
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
