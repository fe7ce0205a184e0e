"""Cloud Storage's JSON API as an ASGI app: storage.googleapis.com.

https://cloud.google.com/storage/docs/json_api/v1 . Served: the methods of `served`. All else answers 501 with its name.
"""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import unquote

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from gcp_emulator.api_gate import HttpGate
from gcp_emulator.clock import Clock
from gcp_emulator.faults import Fault, Faults
from gcp_emulator.grants import Grants
from gcp_emulator.http_faults import HttpFaults
from gcp_emulator.run_errors import Refused
from gcp_emulator.state import State
from gcp_emulator.storage_batch import batch
from gcp_emulator.storage_buckets import Buckets, Holds, holds_all
from gcp_emulator.storage_call import Call, Handler, json_response
from gcp_emulator.storage_errors import (
    NotModified,
    PlainError,
    StorageError,
    unauthenticated,
    unimplemented,
)
from gcp_emulator.storage_methods import BATCH, Matched, match
from gcp_emulator.storage_objects import Objects
from gcp_emulator.storage_store import Store
from gcp_emulator.storage_uploads import Uploads

Authorised = Callable[[str | None], str | None]
"""From the value of an Authorization header to who calls; None: nobody that is known."""
_UNSERVED_PARAMETERS = (
    "contentEncodingFilter",
    "destinationKmsKeyName",
    "destinationPredefinedAcl",
    "filter",
    "kmsKeyName",
    "matchGlob",
    "overrideUnlockedRetention",
    "predefinedAcl",
    "predefinedDefaultObjectAcl",
)
_UNSERVED_SWITCHES = ("softDeleted", "enableObjectRetention")
_UNSERVED_HEADERS = ("x-goog-encryption-algorithm", "x-goog-copy-source-encryption-algorithm")
_SIGNATURES = ("x-goog-signature", "signature")
_REASONS = {401: "authError", 403: "forbidden", 404: "notFound", 409: "conflict", 429: "rateLimitExceeded"}


def create_app(
    state: State, faults: Faults, clock: Clock, authorised: Authorised, project_number: str = "0"
) -> ASGIApp:
    """Works at once; what an earlier run that was killed left half-written is removed now."""
    store = Store(state, clock, project_number)
    uploads = Uploads(store)
    uploads.forget_old()
    store.sweep()
    grants = Grants(state, project_number)
    storage = Storage(served(store, uploads, grants.holds), authorised)
    gated = HttpGate(storage.serve, grants, _disabled)
    storage.app = HttpFaults(gated, faults, clock, _faulty, project_number)
    return storage.app


def served(store: Store, uploads: Uploads, holds: Holds = holds_all) -> dict[str, Handler]:
    """What there is, by the method's name."""
    buckets, objects = Buckets(store, holds), Objects(store)
    return {
        "storage.buckets.delete": buckets.delete,
        "storage.buckets.get": buckets.get,
        "storage.buckets.getIamPolicy": buckets.get_policy,
        "storage.buckets.getStorageLayout": buckets.storage_layout,
        "storage.buckets.insert": buckets.insert,
        "storage.buckets.list": buckets.list_buckets,
        "storage.buckets.patch": buckets.patch,
        "storage.buckets.setIamPolicy": buckets.set_policy,
        "storage.buckets.testIamPermissions": buckets.test_permissions,
        "storage.buckets.update": buckets.update,
        "storage.managedFolders.list": buckets.managed_folders,
        "storage.objects.compose": objects.compose,
        "storage.objects.copy": objects.copy,
        "storage.objects.delete": objects.delete,
        "storage.objects.get": objects.get,
        "storage.objects.insert": uploads.insert,
        "storage.objects.list": objects.list_objects,
        "storage.objects.patch": objects.patch,
        "storage.objects.rewrite": objects.rewrite,
        "storage.objects.testIamPermissions": objects.test_permissions,
        "storage.objects.update": objects.update,
        "storage.projects.serviceAccount.get": buckets.service_account,
    }


class Storage:
    """From requests to handlers, and from errors to answers."""

    app: ASGIApp
    """Itself with its faults: what the calls of a batch go through, one by one."""

    def __init__(self, handlers: dict[str, Handler], authorised: Authorised) -> None:
        self._handlers = handlers
        self._authorised = authorised

    async def serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            return
        request = Request(scope, receive)
        try:
            response = await self._answer(request)
        except ClientDisconnect:  # nobody is there to be answered
            return
        await response(scope, receive, send)

    async def _answer(self, request: Request) -> Response:
        raw_path = bytes(request.scope.get("raw_path") or request.url.path.encode()).decode("ascii", "replace")
        matched = match(request.method, raw_path)
        try:
            _check_signature(request)
            self._check_caller(request, matched)
            if raw_path == BATCH and request.method == "POST":
                return await batch(request, self.app)
            if matched is None:
                raise _unknown(request.method, raw_path)
            return await self._handled(Call(matched, request))
        except NotModified:
            return Response(status_code=304)
        except StorageError as error:
            return _refusal(error, matched, request)

    def _check_caller(self, request: Request, matched: Matched | None) -> None:
        header = request.headers.get("authorization")
        if self._authorised(header) is None:
            name = matched.name if matched else "storage"
            raise unauthenticated(name, anonymous=header is None)

    async def _handled(self, call: Call) -> Response:
        handler = self._handlers.get(call.matched.name)
        if handler is None:
            raise unimplemented(call.matched.name)
        _check_served(call)
        return await handler(call)


def _check_signature(request: Request) -> None:
    if any(key.lower() in _SIGNATURES for key in request.query_params):
        raise unimplemented("a signed URL")


def _check_served(call: Call) -> None:
    """What would change the outcome, and is not there, is refused rather than ignored."""
    for name in _UNSERVED_PARAMETERS:
        if call.query.get(name):
            raise unimplemented(f"the parameter {name} of {call.matched.name}")
    for name in _UNSERVED_SWITCHES:
        if call.query.get(name, "").lower() == "true":
            raise unimplemented(f"the parameter {name} of {call.matched.name}")
    for name in _UNSERVED_HEADERS:
        if name in call.headers:
            raise unimplemented("encryption with a customer's own key")


def _unknown(verb: str, raw_path: str) -> StorageError:
    if raw_path.startswith(("/storage/", "/upload/", "/download/", "/resumable/", "/batch")):
        return StorageError(404, "notFound", "Not Found")
    return unimplemented(f"the XML API ({verb} {unquote(raw_path)})")


def _refusal(error: StorageError, matched: Matched | None, request: Request) -> Response:
    """JSON; text where bytes were asked for, as the service's upload and download servers have it."""
    if isinstance(error, PlainError) or (matched is not None and Call(matched, request).media):
        return Response(error.message, error.status, media_type="text/html; charset=UTF-8")
    return json_response(error.body(), error.status)


def _faulty(fault: Fault, words: str) -> Response:
    error = StorageError(fault.http_status, _REASONS.get(fault.http_status, "backendError"), words)
    return json_response(error.body(), error.status)


def _disabled(refused: Refused) -> Response:
    return json_response(StorageError(403, "accessNotConfigured", refused.message).body(), 403)
