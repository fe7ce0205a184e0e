"""The REST side of the services that speak gRPC, as Google's own front end has it: each call is handed to gRPC.

So who calls, faults and answers are the same. What gRPC does not serve answers 501 with its name here, too.
"""

from __future__ import annotations

import http
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import grpc
from google.protobuf.message import Message
from google.rpc import status_pb2
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from gcp_emulator import rest_knative
from gcp_emulator.faults import HTTP_STATUS
from gcp_emulator.grpc_server import Method, Service
from gcp_emulator.http_server import HttpServer, Server
from gcp_emulator.rest_messages import BadRequest, fill, shown
from gcp_emulator.rest_rules import match, rules_of

_VERBS = ["DELETE", "GET", "PATCH", "POST", "PUT"]
# The host's proxy is not for loopback, and messages may be as large as the server's.
_OPTIONS = (("grpc.enable_http_proxy", 0), ("grpc.max_receive_message_length", 32 << 20))
_DETAILS = "grpc-status-details-bin"


class WithRest:
    """A gRPC server, and the REST side of it: two servers, of which this one is started first."""

    def __init__(self, server: Server, services: Sequence[Service]) -> None:
        self._server = server
        self._channel: grpc.aio.Channel | None = None
        self.rest = HttpServer(create_app(services, self._connected))

    async def start(self, port: int = 0) -> int:
        """Raises OSError."""
        bound = await self._server.start(port)
        self._channel = grpc.aio.insecure_channel(f"127.0.0.1:{bound}", options=_OPTIONS)
        return bound

    async def stop(self) -> None:
        if self._channel:
            await self._channel.close()
        await self._server.stop()

    def _connected(self) -> grpc.aio.Channel:
        if self._channel is None:
            raise RuntimeError("the gRPC server was not started before its REST side")
        return self._channel


def create_app(services: Sequence[Service], channel: Callable[[], grpc.aio.Channel]) -> Starlette:
    """channel: to the gRPC server that serves them; asked for once it is up."""
    methods: dict[str, Method] = {name: method for service in services for name, method in service.methods.items()}

    async def call(request: Request) -> Response:
        host = request.headers.get("host", "").partition(":")[0]
        older = rest_knative.asked(request.method, host, request.url.path)
        if older is not None and older.method in methods:
            return await in_old_words(older, request.headers)
        found = match(rules_of(host), request.method, request.url.path)
        if found is None or found.method not in methods:
            what = found.method.lstrip("/").replace("/", ".") if found else f"{request.method} {host}{request.url.path}"
            return error(501, "UNIMPLEMENTED", f"{what} is not served by gcp_emulator.")
        method = methods[found.method]
        message = plain(method.request)()
        try:
            fill(
                message, found.body, await request.body(), [*request.query_params.multi_items(), *found.fields.items()]
            )
        except BadRequest as refused:
            return error(400, "INVALID_ARGUMENT", str(refused))
        return await _forward(channel(), found.method, message, plain(method.response), headers=request.headers)

    async def in_old_words(older: rest_knative.Asked, headers: Mapping[str, str]) -> Response:
        """The first page: a twin has no more than a few services."""
        method = methods[older.method]
        message = plain(method.request)(**older.fields)
        return await _forward(
            channel(), older.method, message, plain(method.response), headers=headers, told=older.told
        )

    return Starlette(routes=[Route("/{path:path}", call, methods=_VERBS)])


async def _forward(  # noqa: PLR0913 - one call, whole
    channel: grpc.aio.Channel,
    name: str,
    message: Message,
    answer: type[Message],
    *,
    headers: Mapping[str, str],
    told: Callable[[dict[str, Any]], dict[str, Any]] = dict,
) -> Response:
    """told: the answer in the caller's words."""
    stub: Any = channel.unary_unary(
        name, request_serializer=type(message).SerializeToString, response_deserializer=answer.FromString
    )
    passed = [("authorization", headers["authorization"])] if "authorization" in headers else []
    try:
        return JSONResponse(told(shown(await stub(message, metadata=passed))))
    except grpc.aio.AioRpcError as refused:
        status = refused.code().name
        details = _details(dict(refused.trailing_metadata() or ()).get(_DETAILS))
        return error(
            HTTP_STATUS.get(status, 501 if status == "UNIMPLEMENTED" else 500), status, refused.details(), details
        )


def plain(message_type: Any) -> type[Message]:
    """The class of protobuf under one of proto-plus, or itself."""
    found: type[Message] = message_type.pb() if hasattr(message_type, "pb") else message_type
    return found


def error(code: int, status: str, words: str | None, details: list[dict[str, Any]] | None = None) -> Response:
    """https://google.aip.dev/193#http11json-representation"""
    body: dict[str, Any] = {"code": code, "message": words or http.HTTPStatus(code).phrase, "status": status}
    return JSONResponse({"error": {**body, "details": details} if details else body}, status_code=code)


def _details(encoded: str | bytes | None) -> list[dict[str, Any]]:
    if not isinstance(encoded, bytes):
        return []
    shown_details: list[dict[str, Any]] = shown(status_pb2.Status.FromString(encoded)).get("details", [])
    return shown_details
