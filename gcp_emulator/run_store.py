"""Services, revisions and policies of Cloud Run, as Google's own messages, by their full names."""

from __future__ import annotations

from collections.abc import Iterator

from google.cloud import run_v2
from google.iam.v1 import policy_pb2

from gcp_emulator.run_names import Name, short
from gcp_emulator.state import State


class RunStore:
    def __init__(self, state: State) -> None:
        self.transaction = state.transaction
        self._services = state.bytes_table("run.services")
        self._revisions = state.bytes_table("run.revisions")
        self._policies = state.bytes_table("run.policies")
        self._pending = state.json_table("run.pending")

    def service(self, name: str) -> run_v2.Service | None:
        row = self._services.get(name)
        return None if row is None else run_v2.Service.deserialize(row)

    def put_service(self, service: run_v2.Service) -> None:
        self._services.put(service.name, run_v2.Service.serialize(service))

    def services(self, parent: str = "", *, after: str = "", limit: int | None = None) -> list[run_v2.Service]:
        """Of one location, or all there are; sorted by name."""
        prefix = f"{parent}/services/" if parent else ""
        return [run_v2.Service.deserialize(row) for _, row in self._services.list(prefix, after=after, limit=limit)]

    def delete_service(self, name: str) -> None:
        """With its revisions and its policy."""
        with self.transaction():
            for key, _ in self._revisions.list(f"{name}/revisions/"):
                self._revisions.delete(key)
            self._policies.delete(name)
            self._services.delete(name)

    def revision(self, name: str) -> run_v2.Revision | None:
        row = self._revisions.get(name)
        return None if row is None else run_v2.Revision.deserialize(row)

    def put_revision(self, revision: run_v2.Revision) -> None:
        self._revisions.put(revision.name, run_v2.Revision.serialize(revision))

    def delete_revision(self, name: str) -> None:
        self._revisions.delete(name)

    def revisions(self, service: str) -> dict[str, run_v2.Revision]:
        """Of a service, by short name."""
        rows = (run_v2.Revision.deserialize(row) for _, row in self._revisions.list(f"{service}/revisions/"))
        return {short(one.name): one for one in rows}

    def revisions_below(self, parent: Name, *, after: str) -> Iterator[run_v2.Revision]:
        """Of one service, or of all services of a location where the service is `-`."""
        every = parent.service == "-"
        prefix = f"{parent.parent}/services/" if every else f"{parent}/revisions/"
        for _, row in self._revisions.list(prefix, after=after):
            yield run_v2.Revision.deserialize(row)

    def policy(self, name: str) -> policy_pb2.Policy | None:
        row = self._policies.get(name)
        return None if row is None else policy_pb2.Policy.FromString(row)

    def put_policy(self, name: str, policy: policy_pb2.Policy) -> None:
        self._policies.put(name, policy.SerializeToString())

    def put_pending(self, service: str, operation: str, generation: int) -> None:
        """An operation that ends when this generation of the service has settled."""
        self._pending.put(f"{service} {operation}", generation)

    def pending(self, service: str) -> list[tuple[str, int]]:
        """(operation, generation)"""
        return [(key.split(" ", 1)[1], int(generation)) for key, generation in self._pending.list(f"{service} ")]

    def delete_pending(self, service: str, operation: str) -> None:
        self._pending.delete(f"{service} {operation}")

    def all_pending(self) -> list[tuple[str, str, int]]:
        """(service, operation, generation)"""
        rows = ((key.split(" ", 1), generation) for key, generation in self._pending.list())
        return [(service, operation, int(generation)) for (service, operation), generation in rows]
