"""google.cloud.run.v2.Revisions: looked at, and those that serve no more deleted."""

from __future__ import annotations

import uuid
from itertools import islice
from typing import Any

from google.cloud import run_v2
from google.longrunning import operations_pb2

from gcp_emulator.grpc_server import Method, Service
from gcp_emulator.operations import Operations
from gcp_emulator.run_controller import RunController
from gcp_emulator.run_errors import Refused, conflict, missing
from gcp_emulator.run_names import Name
from gcp_emulator.run_project import Project
from gcp_emulator.run_reconcile import serving
from gcp_emulator.run_services import page_size, page_start, page_token
from gcp_emulator.run_store import RunStore


class Revisions:
    def __init__(self, *, store: RunStore, operations: Operations, controller: RunController, project: Project) -> None:
        self._store = store
        self._operations = operations
        self._controller = controller
        self._project = project

    async def get(self, request: Any) -> run_v2.Revision:
        return self._known(self._project.name(request.name, "run.revisions.get", revision=True))

    async def list(self, request: Any) -> run_v2.ListRevisionsResponse:
        parent = self._project.name(request.parent, "run.revisions.list", service=True)
        if parent.service != "-" and self._store.service(str(parent)) is None:
            raise missing(parent)
        size = page_size(request.page_size)
        rows = self._store.revisions_below(parent, after=page_start(request.page_token))
        found = list(islice(rows, size + 1))
        token = page_token(found[size - 1].name) if len(found) > size else ""
        return run_v2.ListRevisionsResponse(revisions=found[:size], next_page_token=token)

    async def delete(self, request: Any) -> Any:
        """Only one that neither serves nor is the newest."""
        name = self._project.name(request.name, "run.revisions.delete", revision=True)
        revision = self._known(name)
        if request.etag and request.etag != revision.etag:
            raise conflict(name.revision, request.etag, revision.etag)
        service = self._store.service(name.of_service)
        if service and (name.revision in serving(service) or service.latest_created_revision == revision.name):
            words = (
                f"Revision '{name.revision}' cannot be deleted: it serves traffic or is the latest created revision."
            )
            raise Refused("FAILED_PRECONDITION", words)
        revision.delete_time = self._controller.now()
        message = run_v2.Revision.pb(revision)
        operation = f"{name.parent}/operations/{uuid.uuid4()}"
        self._operations.start(operation, message)
        if not request.validate_only:
            self._store.delete_revision(revision.name)
        self._operations.finish(operation, message)
        return self._operations.find(operation)

    def _known(self, name: Name) -> run_v2.Revision:
        revision = self._store.revision(str(name))
        if revision is None:
            raise missing(name)
        return revision

    def service(self) -> Service:
        run = run_v2
        return Service(
            "google.cloud.run.v2.Revisions",
            {
                "GetRevision": Method(self.get, run.GetRevisionRequest, run.Revision),
                "ListRevisions": Method(self.list, run.ListRevisionsRequest, run.ListRevisionsResponse),
                "DeleteRevision": Method(self.delete, run.DeleteRevisionRequest, operations_pb2.Operation),
            },
        )
