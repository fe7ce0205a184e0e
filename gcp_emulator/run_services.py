"""google.cloud.run.v2.Services: what a caller may ask of services."""

from __future__ import annotations

import base64
import binascii
import secrets
import uuid
from collections.abc import Sequence
from typing import Any

from google.cloud import run_v2
from google.longrunning import operations_pb2
from google.protobuf import any_pb2

from gcp_emulator.grpc_server import CALLER, Method, Service
from gcp_emulator.operations import Operations
from gcp_emulator.run_checks import Violation
from gcp_emulator.run_conditions import CODES
from gcp_emulator.run_controller import RunController
from gcp_emulator.run_defaults import fill_in
from gcp_emulator.run_errors import Refused, conflict, exists, invalid, missing, revision_exists
from gcp_emulator.run_gpu_checks import Quotas, quota_problem
from gcp_emulator.run_iam import Policies
from gcp_emulator.run_names import Name, revision_name, short
from gcp_emulator.run_project import Project
from gcp_emulator.run_reconcile import accepted, failure_shown, reconciling, revision_of, same_template, tagged, wish_of
from gcp_emulator.run_store import RunStore
from gcp_emulator.run_validation import service_id_violations, service_violations

LARGEST_PAGE = 100


class Services:
    def __init__(  # noqa: PLR0913 - the parts that it brings together
        self,
        *,
        store: RunStore,
        operations: Operations,
        controller: RunController,
        policies: Policies,
        project: Project,
        quotas: Quotas,
    ) -> None:
        self._store = store
        self._operations = operations
        self._controller = controller
        self._policies = policies
        self._project = project
        self._quotas = quotas

    async def create(self, request: Any) -> Any:
        parent = self._project.name(request.parent, "run.services.create")
        problems = service_id_violations(request.service_id)
        self._check("CreateServiceRequest", request.service, request.service_id, problems)
        name = parent.with_service(request.service_id)
        if self._store.service(str(name)) is not None:
            raise exists(request.service_id)
        return self._create(name, request.service, validate_only=request.validate_only)

    async def get(self, request: Any) -> run_v2.Service:
        return self._known(self._project.name(request.name, "run.services.get", service=True))

    async def list(self, request: Any) -> run_v2.ListServicesResponse:
        parent = self._project.name(request.parent, "run.services.list")
        size = page_size(request.page_size)
        found = self._store.services(str(parent), after=page_start(request.page_token), limit=size + 1)
        token = page_token(found[size - 1].name) if len(found) > size else ""
        return run_v2.ListServicesResponse(services=found[:size], next_page_token=token)

    async def update(self, request: Any) -> Any:
        name = self._project.name(request.service.name, "run.services.update", service=True)
        before = self._store.service(str(name))
        if before is None:
            if not request.allow_missing:
                raise missing(name)
            problems = service_id_violations(name.service)
            self._check("UpdateServiceRequest", request.service, name.service, problems)
            return self._create(name, request.service, validate_only=request.validate_only)
        _check_etag(name.service, request.service.etag, before.etag)
        wish = _masked(before, request)
        self._check("UpdateServiceRequest", wish, name.service, [])
        return self._update(name, before, wish, validate_only=request.validate_only)

    async def delete(self, request: Any) -> Any:
        name = self._project.name(request.name, "run.services.delete", service=True)
        service = self._known(name)
        _check_etag(name.service, request.etag, service.etag)
        if request.validate_only:
            return _done(self._operation_name(name), service)
        if service.delete_time:
            operation = next(iter(self._store.pending(service.name)), None)
            found = self._operations.find(operation[0]) if operation else None
            if found is not None:
                return found
        service.delete_time = self._controller.now()
        return self._begin(name, reconciling(service, self._controller.now()), None)

    def _create(self, name: Name, wish: run_v2.Service, *, validate_only: bool) -> Any:
        now = self._controller.now()
        wish = wish_of(wish)
        fill_in(wish, self._project.compute_account)
        service = accepted(None, wish, now)
        service.name, service.uid, service.creator = str(name), str(uuid.uuid4()), CALLER.get()
        return self._take(name, service, validate_only=validate_only, new_revision=True)

    def _update(self, name: Name, before: run_v2.Service, wish: run_v2.Service, *, validate_only: bool) -> Any:
        """Raises Refused where the template names a revision that is there already and differs."""
        wish = wish_of(wish)
        fill_in(wish, self._project.compute_account)
        same = same_template(wish.template, before.template)
        named = wish.template.revision
        taken = bool(named) and self._store.revision(name.of_revision(named)) is not None
        if taken and not (same and short(before.latest_created_revision) == named):
            raise revision_exists(named)
        if before.delete_time:
            raise Refused("FAILED_PRECONDITION", f"Resource '{name.service}' is being deleted.")
        if wish_of(before) == wish:
            return self._nothing_new(name, before)
        service = accepted(before, wish, self._controller.now())
        return self._take(name, service, validate_only=validate_only, new_revision=not same or (named and not taken))

    def _nothing_new(self, name: Name, service: run_v2.Service) -> Any:
        """No new generation: it ends as the last change did, or with it."""
        if service.reconciling:
            return self._started(name, service)
        operation = _done(self._operation_name(name), service)
        if failure := failure_shown(service, CODES):
            operation.error.code, operation.error.message = failure.code, failure.message
        return operation

    def _take(self, name: Name, service: run_v2.Service, *, validate_only: bool, new_revision: bool) -> Any:
        now = self._controller.now()
        service.last_modifier = CALLER.get()
        revision = None
        if new_revision:
            own = service.template.revision or revision_name(name.service, service.generation, secrets.randbits(32))
            service.latest_created_revision = name.of_revision(own)
            revision = revision_of(service, own, str(uuid.uuid4()), now)
        if validate_only:
            return _done(self._operation_name(name), tagged(service))
        return self._begin(name, tagged(service), revision)

    def _begin(self, name: Name, service: run_v2.Service, revision: run_v2.Revision | None) -> Any:
        """All of a change is written, or nothing."""
        with self._store.transaction():
            if revision is not None:
                self._store.put_revision(revision)
            self._store.put_service(service)
            operation = self._started(name, service)
        self._controller.wake(service.name)
        return operation

    def _started(self, name: Name, service: run_v2.Service) -> Any:
        operation = self._operations.start(self._operation_name(name), run_v2.Service.pb(service))
        self._store.put_pending(service.name, operation.name, service.generation)
        return operation

    def _operation_name(self, name: Name) -> str:
        return f"{name.parent}/operations/{uuid.uuid4()}"

    def _check(self, request: str, service: run_v2.Service, service_id: str, found: Sequence[Violation]) -> None:
        problems = [*found, *service_violations(service, service_id)]
        if problems:
            raise invalid(request, problems)
        if words := quota_problem(service.template, self._quotas):
            raise Refused("INVALID_ARGUMENT", words)

    def _known(self, name: Name) -> run_v2.Service:
        service = self._store.service(str(name))
        if service is None:
            raise missing(name)
        return service

    def service(self) -> Service:
        operation = operations_pb2.Operation
        return Service(
            "google.cloud.run.v2.Services",
            {
                "CreateService": Method(self.create, run_v2.CreateServiceRequest, operation),
                "GetService": Method(self.get, run_v2.GetServiceRequest, run_v2.Service),
                "ListServices": Method(self.list, run_v2.ListServicesRequest, run_v2.ListServicesResponse),
                "UpdateService": Method(self.update, run_v2.UpdateServiceRequest, operation),
                "DeleteService": Method(self.delete, run_v2.DeleteServiceRequest, operation),
                **self._policies.methods(),
            },
        )


def page_size(asked: int) -> int:
    """Raises Refused."""
    if asked < 0:
        raise Refused("INVALID_ARGUMENT", "page_size must not be negative.")
    return min(asked or LARGEST_PAGE, LARGEST_PAGE)


def page_token(last: str) -> str:
    return base64.urlsafe_b64encode(last.encode()).decode()


def page_start(token: str) -> str:
    """Raises Refused for a token that we did not give."""
    try:
        return base64.b64decode(token.encode(), altchars=b"-_", validate=True).decode()
    except (binascii.Error, UnicodeDecodeError) as error:
        raise Refused("INVALID_ARGUMENT", "The page_token is not valid.") from error


def _check_etag(service: str, given: str, current: str) -> None:
    if given and given != current:
        raise conflict(service, given, current)


def _masked(before: run_v2.Service, request: Any) -> run_v2.Service:
    """What is wished, given which fields are meant. Raises Refused for one that there is not."""
    mask = request.update_mask
    if not mask or not mask.paths or list(mask.paths) == ["*"]:
        return request.service
    if not mask.IsValidForDescriptor(run_v2.Service.pb(before).DESCRIPTOR):
        raise Refused("INVALID_ARGUMENT", f"Invalid field mask: {', '.join(mask.paths)}.")
    wish = run_v2.Service(before)
    mask.MergeMessage(run_v2.Service.pb(request.service), run_v2.Service.pb(wish), True, True)
    return wish


def _done(name: str, service: run_v2.Service) -> Any:
    """An operation that was over before it began; nobody remembers it."""
    packed = any_pb2.Any()
    packed.Pack(run_v2.Service.pb(service))
    return operations_pb2.Operation(name=name, metadata=packed, response=packed, done=True)
