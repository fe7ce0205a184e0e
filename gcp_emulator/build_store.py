"""Builds, as Google's own messages, by their full names; each with the operation that tells how far it is."""

from __future__ import annotations

import base64
from datetime import UTC, datetime
from typing import Any

from google.cloud.devtools.cloudbuild_v1 import types

from gcp_emulator.clock import Clock
from gcp_emulator.operations import Operations
from gcp_emulator.state import State

Status = types.Build.Status
Build = types.Build.pb()
"""The class of protobuf."""

ENDED = frozenset(
    {Status.SUCCESS, Status.FAILURE, Status.INTERNAL_ERROR, Status.TIMEOUT, Status.CANCELLED, Status.EXPIRED}
)
# google.rpc.Code and the words of an operation whose build did not succeed.
_OUTCOMES = {
    Status.FAILURE: (2, "Build failed; check build logs for details"),
    Status.INTERNAL_ERROR: (13, "Build failed due to an internal error"),
    Status.TIMEOUT: (4, "Build timed out"),
    Status.CANCELLED: (1, "Build cancelled"),
    Status.EXPIRED: (4, "Build expired in the queue"),
}


class BuildStore:
    def __init__(self, state: State, operations: Operations, clock: Clock) -> None:
        self._state = state
        self._rows = state.bytes_table("build.builds")
        self._operations = operations
        self._clock = clock

    def create(self, build: Any) -> Any:
        """Its operation."""
        with self._state.transaction():
            self._rows.put(build.name, build.SerializeToString())
            return self._operations.start(operation_name(build), _metadata(build))

    def put(self, build: Any) -> None:
        """How far it is. The operation ends with the build."""
        with self._state.transaction():
            self._rows.put(build.name, build.SerializeToString())
            self._operations.note(operation_name(build), _metadata(build))
            if build.status == Status.SUCCESS:
                self._operations.finish(operation_name(build), build)
            elif build.status in ENDED:
                self._operations.fail(operation_name(build), *_OUTCOMES[build.status])

    def find(self, name: str) -> Any | None:
        row = self._rows.get(name)
        return None if row is None else Build.FromString(row)

    def all(self, parent: str) -> list[Any]:
        """Of a location, or of all (empty); those made last first."""
        rows = [Build.FromString(row) for _, row in self._rows.list(f"{parent}/builds/" if parent else "")]
        return sorted(rows, key=order, reverse=True)

    def unfinished(self) -> list[Any]:
        return [build for build in self.all("") if build.status not in ENDED]

    def stamp(self, moment: Any) -> None:
        """Write the present into a Timestamp."""
        moment.FromDatetime(datetime.fromtimestamp(self._clock.now(), UTC))


def order(build: Any) -> tuple[int, str]:
    return int(build.create_time.ToNanoseconds()), str(build.id)


def operation_name(build: Any) -> str:
    return f"operations/build/{build.project_id}/{base64.b64encode(build.id.encode()).decode()}"


def build_of_operation(name: str) -> str:
    """The build's id."""
    return base64.b64decode(name.rpartition("/")[2]).decode()


def _metadata(build: Any) -> Any:
    return types.BuildOperationMetadata.pb(types.BuildOperationMetadata(build=build))
