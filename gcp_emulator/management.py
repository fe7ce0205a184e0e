"""The APIs around the services: which are enabled, who may do what, repositories, secrets. JSON over HTTP alone.

An API is a host, the rules of its REST calls, and a function for each that is served; the rest answers 501 with its
name. Errors: https://google.aip.dev/193.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from google.protobuf import json_format
from starlette.applications import Starlette
from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from gcp_emulator import rest
from gcp_emulator.api_gate import HttpGate
from gcp_emulator.faults import HTTP_STATUS, Fault
from gcp_emulator.grants import Grants
from gcp_emulator.http_faults import HttpFaults
from gcp_emulator.rest_rules import Rule, match
from gcp_emulator.run_errors import Refused
from gcp_emulator.twin import Twin

Json = dict[str, Any]
_VERBS = ["DELETE", "GET", "PATCH", "POST", "PUT"]


@dataclass(frozen=True)
class Asked:
    """fields: of the path, by their names in the rule."""

    fields: Mapping[str, str]
    query: QueryParams
    body: Json
    host: str


Handler = Callable[[Asked], Json]
"""May raise Refused."""


@dataclass(frozen=True)
class Api:
    """handlers: by the rule's method, e.g. `google.api.serviceusage.v1.ServiceUsage.GetService`."""

    host: str
    rules: tuple[Rule, ...]
    handlers: Mapping[str, Handler]


def create_app(twin: Twin, grants: Grants, apis: Sequence[Api]) -> ASGIApp:
    by_host = {api.host: api for api in apis}

    async def call(request: Request) -> Response:
        if twin.tokens.caller_of(request.headers.get("authorization")) is None:
            return rest.error(401, "UNAUTHENTICATED", "Request had invalid authentication credentials.")
        try:
            return JSONResponse(await _answer(by_host, request))
        except Refused as refused:
            return refusal(refused)

    app = Starlette(routes=[Route("/{path:path}", call, methods=_VERBS)])
    gated = HttpGate(app, grants, refusal)
    return HttpFaults(gated, twin.faults, twin.clock, _faulty, twin.settings.project_number)


async def _answer(by_host: Mapping[str, Api], request: Request) -> Json:
    host, path = request.headers.get("host", "").partition(":")[0], request.url.path
    api = by_host[host]
    found = match(api.rules, request.method, path)
    handler = api.handlers.get(found.method) if found else None
    if found is None or handler is None:
        what = found.method if found else f"{request.method} {host}{path}"
        raise Refused("UNIMPLEMENTED", f"{what} is not served by gcp_emulator.")
    return handler(Asked(found.fields, request.query_params, await _body(request), host))


async def _body(request: Request) -> Json:
    data = await request.body()
    try:
        value = json.loads(data) if data else {}
    except (ValueError, RecursionError) as error:
        raise Refused("INVALID_ARGUMENT", f"Invalid JSON payload received. {error}") from error
    if not isinstance(value, dict):
        raise Refused("INVALID_ARGUMENT", "Invalid JSON payload received. An object is expected.")
    return value


def refusal(refused: Refused) -> Response:
    details = [
        {"@type": f"type.googleapis.com/{one.DESCRIPTOR.full_name}", **json_format.MessageToDict(one)}
        for one in refused.details
    ]
    code = 501 if refused.code == "UNIMPLEMENTED" else HTTP_STATUS[refused.code]
    return rest.error(code, refused.code, refused.message, details)


def _faulty(fault: Fault, words: str) -> Response:
    return rest.error(fault.http_status, fault.code, words)


def not_found(words: str = "Requested entity was not found.") -> Refused:
    return Refused("NOT_FOUND", words)


def tested(grants: Grants, resource: str, body: Json) -> Json:
    """Answer to testIamPermissions: those that are held. https://cloud.google.com/iam/docs/testing-permissions"""
    asked = [str(name) for name in body.get("permissions") or ()]
    if any("*" in name for name in asked):
        raise Refused("INVALID_ARGUMENT", "Permissions with wildcards (such as * or storage.*) are not allowed.")
    held = [name for name in asked if grants.holds(name, resource)]
    return {"permissions": held} if held else {}
