"""google.longrunning: what is under way, for every gRPC service of the twin. A restart forgets none of it.

https://github.com/googleapis/googleapis/blob/master/google/longrunning/operations.proto
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from google.longrunning import operations_pb2
from google.protobuf import any_pb2, empty_pb2
from google.rpc import status_pb2

from gcp_emulator.clock import Clock
from gcp_emulator.grpc_server import Method, Service
from gcp_emulator.run_errors import Refused
from gcp_emulator.state import State

Operation = Any
"""operations_pb2.Operation"""
_LARGEST_PAGE = 100
_CANCELLED = 1  # google.rpc.Code


class Operations:
    def __init__(self, state: State, clock: Clock) -> None:
        self._table = state.bytes_table("operations")
        self._clock = clock
        self._waiting: dict[str, asyncio.Event] = {}
        self._cancellers: dict[str, Callable[[str], Awaitable[None]]] = {}

    def may_cancel(self, kind: str, cancel: Callable[[str], Awaitable[None]]) -> None:
        """`cancel(name)` for operations whose metadata is a message of this full name; of others none is."""
        self._cancellers[kind] = cancel

    def start(self, name: str, metadata: Any) -> Operation:
        """Args:
        name: `projects/P/locations/R/operations/ID`, or as the service has them.
        metadata: a message of protobuf.
        """
        operation = operations_pb2.Operation(name=name, metadata=_packed(metadata))
        self._keep(operation)
        return operation

    def note(self, name: str, metadata: Any) -> None:
        """How far it is. What is done, or was deleted, stays as it is."""
        operation = self.find(name)
        if operation is not None and not operation.done:
            operation.metadata.CopyFrom(_packed(metadata))
            self._keep(operation)

    def finish(self, name: str, response: Any) -> None:
        """A message of protobuf. What is done, or was deleted, stays as it is."""
        operation = self.find(name)
        if operation is not None and not operation.done:
            operation.response.CopyFrom(_packed(response))
            self._end(operation)

    def fail(self, name: str, code: int, message: str) -> None:
        """`code` is a google.rpc.Code."""
        operation = self.find(name)
        if operation is not None and not operation.done:
            operation.error.CopyFrom(status_pb2.Status(code=code, message=message))
            self._end(operation)

    def find(self, name: str) -> Operation | None:
        row = self._table.get(name)
        return None if row is None else operations_pb2.Operation.FromString(row)

    async def get(self, request: Any) -> Operation:
        return self._known(request.name)

    async def list(self, request: Any) -> Any:
        """`filter`: nothing, `done=true` or `done=false`."""
        wanted = {"": None, "done=true": True, "done=false": False}
        if request.filter.replace(" ", "") not in wanted:
            raise Refused(
                "INVALID_ARGUMENT", f"Invalid filter: {request.filter}. The twin knows done=true, done=false."
            )
        done = wanted[request.filter.replace(" ", "")]
        size = min(request.page_size or _LARGEST_PAGE, _LARGEST_PAGE)
        rows = self._table.list(f"{request.name}/operations/", after=request.page_token)
        read = (operations_pb2.Operation.FromString(row) for _, row in rows)
        found = [one for one in read if done is None or one.done == done]
        more = found[size - 1].name if len(found) > size else ""
        return operations_pb2.ListOperationsResponse(operations=found[:size], next_page_token=more)

    async def wait(self, request: Any) -> Operation:
        """Until it is done or the time that the caller gives is over, whichever is first."""
        operation = self._known(request.name)
        if operation.done:
            return operation
        ended = self._waiting.setdefault(request.name, asyncio.Event())
        seconds = request.timeout.ToTimedelta().total_seconds() if request.HasField("timeout") else 3600.0
        tasks = [asyncio.ensure_future(ended.wait()), asyncio.ensure_future(self._clock.sleep(seconds))]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
        return self._known(request.name)

    async def delete(self, request: Any) -> Any:
        """Only the record of it: what is under way goes on."""
        self._known(request.name)
        self._table.delete(request.name)
        return empty_pb2.Empty()

    async def cancel(self, request: Any) -> Any:
        operation = self._known(request.name)
        cancel = self._cancellers.get(operation.metadata.TypeName())
        if cancel is None:
            raise Refused("UNIMPLEMENTED", f"{request.name} cannot be cancelled: its service does not offer it.")
        if not operation.done:
            await cancel(request.name)
            self.fail(request.name, _CANCELLED, "The operation was cancelled.")
        return empty_pb2.Empty()

    def service(self) -> Service:
        pb, empty = operations_pb2, empty_pb2.Empty
        return Service(
            "google.longrunning.Operations",
            {
                "GetOperation": Method(self.get, pb.GetOperationRequest, pb.Operation),
                "ListOperations": Method(self.list, pb.ListOperationsRequest, pb.ListOperationsResponse),
                "WaitOperation": Method(self.wait, pb.WaitOperationRequest, pb.Operation),
                "DeleteOperation": Method(self.delete, pb.DeleteOperationRequest, empty),
                "CancelOperation": Method(self.cancel, pb.CancelOperationRequest, empty),
            },
        )

    def _known(self, name: str) -> Operation:
        operation = self.find(name)
        if operation is None:
            raise Refused("NOT_FOUND", f"Operation '{name}' not found.")
        return operation

    def _end(self, operation: Operation) -> None:
        operation.done = True
        self._keep(operation)
        if (ended := self._waiting.pop(operation.name, None)) is not None:
            ended.set()

    def _keep(self, operation: Operation) -> None:
        self._table.put(operation.name, operation.SerializeToString())


def _packed(message: Any) -> any_pb2.Any:
    packed = any_pb2.Any()
    packed.Pack(message)
    return packed
