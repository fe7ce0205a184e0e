"""Buckets and objects, kept. An object is a row and a blob; the row names the blob, so one put is all or nothing."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from gcp_emulator.clock import Clock
from gcp_emulator.state import State
from gcp_emulator.storage_checksums import Summing, Sums
from gcp_emulator.storage_errors import conflict, no_bucket, no_object
from gcp_emulator.storage_preconditions import Preconditions, Version
from gcp_emulator.storage_resources import Birth, check_object_name, new_object, timestamp

Json = dict[str, Any]
_BATCH = 500
_OWNED = "Your previous request to create the named bucket succeeded and you already own it."
_NOT_EMPTY = "The bucket you tried to delete is not empty."


class Store:
    def __init__(self, state: State, clock: Clock, project_number: str) -> None:
        self.project_number = project_number
        self.uploads = state.json_table("storage.uploads")
        self.policies = state.json_table("storage.policies")
        self.blobs = state.blobs("storage")
        self._state = state
        self._clock = clock
        self._buckets = state.json_table("storage.buckets")
        self._objects = state.json_table("storage.objects")
        self._generations = state.json_table("storage.generations")

    def now(self) -> str:
        return timestamp(self._clock.now())

    def seconds(self) -> float:
        return self._clock.now()

    def transaction(self) -> AbstractContextManager[None]:
        return self._state.transaction()

    # buckets

    def bucket(self, name: str) -> Json:
        """Raises StorageError 404."""
        row = self._buckets.get(name)
        if row is None:
            raise no_bucket()
        return dict(row)

    def buckets(self, prefix: str) -> list[tuple[str, Json]]:
        return self._buckets.list(prefix)

    def create_bucket(self, bucket: Json) -> None:
        """Raises StorageError 409."""
        if not self._buckets.create(bucket["name"], bucket):
            raise conflict(_OWNED)

    def change_bucket(self, bucket: Json) -> Json:
        """Write what was read and changed; counts its metageneration."""
        changed = {**bucket, "metageneration": str(int(bucket["metageneration"]) + 1), "updated": self.now()}
        self._buckets.put(bucket["name"], changed)
        return changed

    def delete_bucket(self, name: str) -> None:
        """Raises StorageError 409 where something is in it."""
        if self._objects.list(f"{name}/", limit=1):
            raise conflict(_NOT_EMPTY)
        with self.transaction():
            self._buckets.delete(name)
            self.policies.delete(name)

    # objects

    def find(self, bucket: str, name: str) -> Json | None:
        """`{"resource", "blob"}`"""
        row: Json | None = self._objects.get(f"{bucket}/{name}")
        return row

    def object(self, bucket: str, name: str, generation: int | None = None) -> Json:
        """The same. Raises StorageError 404: also where the generation is another one, for none but one is kept."""
        row = self.find(bucket, name)
        if row is None:
            self.bucket(bucket)
            raise no_object(bucket, name)
        if generation not in (None, int(row["resource"]["generation"])):
            raise no_object(bucket, f"{name}#{generation}")
        return row

    def names_after(self, bucket: str, prefix: str, after: str) -> Iterator[tuple[str, Json]]:
        """(name, resource) of the objects, sorted by name."""
        skip = len(bucket) + 1
        start = f"{bucket}/{after}"
        while True:
            rows = self._objects.list(f"{bucket}/{prefix}", after=start, limit=_BATCH)
            for key, row in rows:
                yield key[skip:], row["resource"]
            if len(rows) < _BATCH:
                return
            start = rows[-1][0]

    def check_target(self, bucket: str, name: str, conditions: Preconditions) -> Json:
        """The bucket that an object may be written to now. Raises StorageError 400, 404, 412."""
        kept = self.bucket(bucket)
        check_object_name(name)
        conditions.check(version(self.find(bucket, name)))
        return kept

    def put(self, target: tuple[str, str], sent: Json, written: Written, conditions: Preconditions) -> Json:
        """The new object, `sent` being its metadata. What was under the name before is gone. Raises as check_target."""
        bucket, name = target
        old = self.find(bucket, name)
        with self.transaction():
            kept = self.check_target(bucket, name, conditions)
            generation = self._next_generation()
            birth = Birth(generation, self.now(), kept["storageClass"])
            resource = new_object(target, sent, written.sums, birth)
            resource.update(written.more)
            self.blobs.keep(written.path, str(generation))
            self._objects.put(f"{bucket}/{name}", {"resource": resource, "blob": str(generation)})
        if old is not None:
            self.blobs.delete(old["blob"])
        return resource

    def change_object(self, row: Json, resource: Json) -> Json:
        """Other metadata for the same bytes; counts the metageneration."""
        changed = {**resource, "metageneration": str(int(resource["metageneration"]) + 1), "updated": self.now()}
        self._objects.put(f"{resource['bucket']}/{resource['name']}", {**row, "resource": changed})
        return changed

    def delete_object(self, row: Json) -> None:
        resource = row["resource"]
        self._objects.delete(f"{resource['bucket']}/{resource['name']}")
        self.blobs.delete(row["blob"])

    def link(self, row: Json) -> Written:
        """The same bytes once more, for a copy. A blob is never written again, so one file may serve several."""
        path = self.blobs.new()
        source = self.blobs.path(row["blob"])
        try:
            path.unlink()
            os.link(source, path)
        except OSError:  # a file system that has no links
            shutil.copyfile(source, path)
        resource = row["resource"]
        count = {key: resource[key] for key in ("componentCount",) if key in resource}
        return Written(path, Sums(int(resource["size"]), resource["crc32c"], resource.get("md5Hash")), count)

    def _next_generation(self) -> int:
        """Microseconds, as the service counts; never one twice, whatever the clock says."""
        last = self._generations.get("last") or 0
        generation = max(int(self._clock.now() * 1_000_000), last + 1)
        self._generations.put("last", generation)
        return generation

    def sweep(self) -> None:
        """Remove what a sudden end left behind: files that no row names."""
        named = {f"={row['blob']}" for _, row in self._objects.list()}
        waiting = {row["file"] for _, row in self.uploads.list() if "file" in row}
        unfinished = self.blobs.unfinished("0").parent
        for path in (*unfinished.parent.glob("=*"), *unfinished.iterdir()):
            if path.name not in named and path.name not in waiting:
                path.unlink()


class Written:
    """Bytes that are all there and are not yet an object."""

    def __init__(self, path: Path, sums: Sums, more: Json | None = None) -> None:
        self.path = path
        self.sums = sums
        self.more = more or {}

    def discard(self) -> None:
        self.path.unlink(missing_ok=True)


class Incoming:
    """A new file that is written piece by piece; it is removed if the block ends before it became an object."""

    def __init__(self, store: Store) -> None:
        self.path = store.blobs.new()
        self._file = self.path.open("wb")
        self._summing = Summing()

    def __enter__(self) -> Incoming:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        self.path.unlink(missing_ok=True)

    def write(self, piece: bytes) -> None:
        self._file.write(piece)
        self._summing.update(piece)

    def done(self) -> Written:
        self._file.close()
        return Written(self.path, self._summing.done())


def version(row: Json | None) -> Version:
    if row is None:
        return Version()
    return Version(int(row["resource"]["generation"]), int(row["resource"]["metageneration"]))
