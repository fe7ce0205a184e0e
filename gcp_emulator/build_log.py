"""The log of a build: an object that grows while the build runs, as Cloud Build writes it.

https://cloud.google.com/build/docs/securing-builds/store-manage-build-logs
"""

from __future__ import annotations

import asyncio
import contextlib

from gcp_emulator.storage_errors import StorageError
from gcp_emulator.storage_preconditions import Preconditions
from gcp_emulator.storage_resources import new_bucket
from gcp_emulator.storage_store import Incoming, Store

_PAUSE = 0.3
"""Seconds between two versions of the object."""


class BuildLog:
    """bucket: empty where none is written."""

    def __init__(self, store: Store, bucket: str, name: str) -> None:
        self._store = store
        self._target = (bucket, name)
        self._text = bytearray()
        self._written = -1
        self._writing: asyncio.Task[None] | None = None

    def add(self, line: str) -> None:
        self._text += f"{line}\n".encode()

    async def __aenter__(self) -> BuildLog:
        self._writing = asyncio.create_task(self._write_often())
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._writing is not None:
            self._writing.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._writing
        self._write()

    async def _write_often(self) -> None:
        while True:
            self._write()
            await asyncio.sleep(_PAUSE)

    def _write(self) -> None:
        if not self._target[0] or len(self._text) == self._written:
            return
        with contextlib.suppress(StorageError), Incoming(self._store) as incoming:  # the bucket may be gone meanwhile
            incoming.write(bytes(self._text))
            self._store.put(self._target, {"contentType": "text/plain"}, incoming.done(), Preconditions())
        self._written = len(self._text)


def split_bucket(logs_bucket: str, build: str) -> tuple[str, str]:
    """(bucket, object) for the log of a build: `gs://BUCKET[/FOLDER]`, `BUCKET`."""
    bucket, _, folder = logs_bucket.removeprefix("gs://").partition("/")
    return bucket, "/".join(part for part in (folder.strip("/"), f"log-{build}.txt") if part)


def ensure_bucket(store: Store, name: str) -> None:
    """One that Cloud Build itself owns."""
    with contextlib.suppress(StorageError):  # it is there
        store.create_bucket(new_bucket(name, {}, project_number=store.project_number, now=store.now()))


def has_bucket(store: Store, name: str) -> bool:
    try:
        store.bucket(name)
    except StorageError:
        return False
    return True
