"""Google's own clients of Cloud Build and Cloud Storage, as much of them as a build needs. Imported when first used.

The storage client blocks, and is called in threads; the proxy and the certificates are those of the environment.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import google.auth
from google.api_core import exceptions
from google.cloud import storage  # type: ignore[attr-defined]
from google.cloud.devtools import cloudbuild_v1

from image_builder.engines.cloud_build_refusals import CAUGHT, LOST, translated
from image_builder.engines.cloud_build_source import Stoppable
from image_builder.engines.cloud_build_spec import Place, log_object, tag_of
from image_builder.work import StopFlag, in_thread

_SCOPE = "https://www.googleapis.com/auth/cloud-platform"
_CALL_SECONDS = 60.0
Status = cloudbuild_v1.Build.Status
ENDED = frozenset(Status) - {Status.STATUS_UNKNOWN, Status.PENDING, Status.QUEUED, Status.WORKING}


def credentials() -> Any:
    """Blocking. Raises google.auth.exceptions.GoogleAuthError."""
    return google.auth.default(scopes=[_SCOPE])[0]


class Sources:
    """The bucket of sources and logs."""

    def __init__(self, place: Place, known: Any) -> None:
        self._place = place
        self._client = storage.Client(project=place.project, credentials=known)
        self._bucket = self._client.bucket(place.bucket)

    async def generation(self, name: str) -> int | None:
        """Of an object; None if it is not there. Raises BuildError."""
        found = await self._asked(f"read the bucket {self._place.bucket}", lambda _: self._bucket.get_blob(name))
        return None if found is None else int(found.generation)

    async def upload(self, name: str, path: Path) -> int:
        """Its generation. What somebody else sent meanwhile under the same name is the same. Raises BuildError."""

        def send(flag: StopFlag) -> int:
            blob = self._bucket.blob(name)
            try:
                with Stoppable(path, flag) as file:
                    blob.upload_from_file(file, size=path.stat().st_size, if_generation_match=0)
                return int(blob.generation)
            except exceptions.PreconditionFailed:
                return int(self._bucket.get_blob(name).generation)

        return int(await self._asked(f"write to the bucket {self._place.bucket}", send))

    async def log_from(self, build: str, start: int) -> bytes:
        """What a build has written since; nothing before it has begun. Raises BuildError."""

        def read(_: StopFlag) -> bytes:
            try:
                return bytes(
                    self._bucket.blob(log_object(build)).download_as_bytes(
                        start=start, raw_download=True, checksum=None
                    )
                )
            except (exceptions.NotFound, exceptions.RequestRangeNotSatisfiable):
                return b""

        return bytes(await self._asked(f"read the log in the bucket {self._place.bucket}", read))

    def close(self) -> None:
        self._client.close()

    async def _asked(self, what: str, call: Any) -> Any:
        try:
            return await in_thread(call)
        except CAUGHT as error:
            raise translated(error, self._place, what) from error


class Builds:
    """The project's builds. Use it as a context manager, in one event loop."""

    def __init__(self, place: Place, known: Any) -> None:
        self._place = place
        self._client = cloudbuild_v1.CloudBuildAsyncClient(credentials=known)

    async def __aenter__(self) -> Builds:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.transport.close()  # type: ignore[no-untyped-call]

    async def create(self, request: dict[str, Any], run: str) -> str:
        """The build's id. One whose answer was lost is found again by its tag. Raises BuildError."""
        try:
            operation = await self._client.create_build(request=request, timeout=_CALL_SECONDS)
            return str(operation.metadata.build.id)
        except CAUGHT as error:
            found = await self.under_way(run) if isinstance(error, LOST) else []
            if found:
                return found[0]
            raise translated(error, self._place, f"start a build in {self._place.project}") from error

    async def get(self, build: str) -> cloudbuild_v1.Build:
        """Raises BuildError."""
        try:
            return await self._client.get_build(project_id=self._place.project, id=build, timeout=_CALL_SECONDS)
        except CAUGHT as error:
            raise translated(error, self._place, f"look at the build {build}") from error

    async def under_way(self, run: str) -> list[str]:
        """Ids of builds of a run. Raises BuildError."""
        asked = {"project_id": self._place.project, "filter": f'tags="{tag_of(run)}"'}
        try:
            pages = await self._client.list_builds(request=asked, timeout=_CALL_SECONDS)
            return [build.id async for build in pages if build.status not in ENDED]
        except CAUGHT as error:
            raise translated(error, self._place, f"list the builds of {self._place.project}") from error

    async def cancel(self, build: str) -> None:
        """One that has ended is left as it is. Raises BuildError."""
        try:
            await self._client.cancel_build(project_id=self._place.project, id=build, timeout=_CALL_SECONDS)
        except (exceptions.FailedPrecondition, exceptions.NotFound):
            return
        except CAUGHT as error:
            raise translated(error, self._place, f"cancel the build {build}") from error
