"""A bucket as a folder, for a container that mounts it.

What Cloud Storage FUSE shows while it is looked at, the twin lays out when the container starts: objects that come
later are not seen, and what the program writes does not become an object.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from gcp_emulator.storage_errors import StorageError
from gcp_emulator.storage_store import Store


class Buckets:
    def __init__(self, store: Store) -> None:
        self._store = store

    def lay_out(self, bucket: str, folder: Path) -> bool:
        """Make the folder anew, with a file for each object; False where there is no such bucket."""
        try:
            self._store.bucket(bucket)
        except StorageError:
            return False
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        for name, _ in self._store.names_after(bucket, "", ""):
            row = self._store.find(bucket, name)
            if row is not None and _is_a_path(name):
                _place(self._store.blobs.path(row["blob"]), folder / name)
        return True


def _is_a_path(name: str) -> bool:
    """An object may be called what no file can be: https://cloud.google.com/storage/docs/cloud-storage-fuse/overview"""
    return not name.startswith("/") and not {"", ".", ".."} & set(name.removesuffix("/").split("/"))


def _place(blob: Path, target: Path) -> None:
    if target.name == "" or str(target).endswith("/") or target.is_dir():
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(blob, target)
    except OSError:  # no hard links here
        shutil.copy2(blob, target)
