"""What a build is made from: an archive in a bucket -> its workspace. Blocking."""

from __future__ import annotations

import zipfile
from pathlib import Path

from gcp_emulator.runtime_unpack import BadLayer, lay_over
from gcp_emulator.storage_errors import StorageError
from gcp_emulator.storage_store import Store


class NoSource(Exception):
    """It is not there, or no archive; the words say which."""


def resolve(store: Store, bucket: str, name: str, generation: int) -> int:
    """The object's generation: the one asked for, else (0) the newest. Raises NoSource."""
    try:
        return int(store.object(bucket, name, generation or None)["resource"]["generation"])
    except StorageError as error:
        raise NoSource(f"could not resolve source: gs://{bucket}/{name}: {error.message}") from error


def fetch(store: Store, bucket: str, name: str, generation: int, workspace: Path) -> None:
    """Raises NoSource."""
    try:
        blob = store.blobs.path(store.object(bucket, name, generation)["blob"])
        if name.endswith(".zip"):
            with zipfile.ZipFile(blob) as archive:
                archive.extractall(workspace)  # which keeps names inside the folder
        else:
            lay_over(blob, "tar+gzip", workspace)
    except (StorageError, BadLayer, OSError, zipfile.BadZipFile) as error:
        raise NoSource(f"error fetching source gs://{bucket}/{name}#{generation}: {error}") from error
