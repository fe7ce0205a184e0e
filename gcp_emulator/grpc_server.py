"""The gRPC server behind run.googleapis.com and its like: who calls is checked, faults strike, the rest is not served.

Google's packages carry clients only. So a service is a table from method names to functions over their messages, and
`served` names all that is in such tables.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Protocol

import grpc
from google.protobuf import any_pb2
from google.rpc import code_pb2, status_pb2

from gcp_emulator.clock import Clock
from gcp_emulator.faults import Fault, Faults
from gcp_emulator.run_errors import Refused

CALLER: ContextVar[str] = ContextVar("caller")
"""E-mail address of whom the call at hand stands for."""

_LARGEST = 32 * 1024 * 1024  # bytes of a message; gRPC's own limit of 4 MiB is less than a full list
_CREDENTIALS = (
    "Expected OAuth 2 access token, login cookie or other valid authentication credential."
    " See https://developers.google.com/identity/sign-in/web/devconsole-project."
)
Behaviour = Callable[[Any, grpc.aio.ServicerContext[Any, Any]], Awaitable[Any]]


@dataclass(frozen=True)
class Method:
    """`request` and `response` are message classes of proto-plus or of protobuf. `call` may raise Refused."""

    call: Callable[[Any], Awaitable[Any]]
    request: Any
    response: Any


class Service(grpc.GenericRpcHandler):
    """`name` is the full one: `google.cloud.run.v2.Services`."""

    def __init__(self, name: str, methods: Mapping[str, Method]) -> None:
        self.methods = {f"/{name}/{method}": handler for method, handler in methods.items()}

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[Any, Any] | None:
        method = self.methods.get(details.method)
        return _handler(method) if method else None


class _NotServed(grpc.GenericRpcHandler):
    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[Any, Any]:
        return grpc.unary_unary_rpc_method_handler(
            refusing(Refused("UNIMPLEMENTED", f"{call_name(details.method)} is not served by gcp_emulator."))
        )


class Identify(Protocol):
    def __call__(self, authorization: str | None, /) -> str | None:
        """E-mail address of whom this header stands for; None: of nobody."""
        ...


class Authentication(grpc.aio.ServerInterceptor):
    def __init__(self, identify: Identify) -> None:
        self._identify = identify

    async def intercept_service(self, continuation: Any, details: grpc.HandlerCallDetails) -> Any:
        metadata = {str(key): value for key, value in details.invocation_metadata or ()}
        authorization = metadata.get("authorization")
        caller = self._identify(None if authorization is None else str(authorization))
        if caller is None:
            how = (
                "is missing required authentication credential."
                if not authorization
                else "had invalid authentication credentials."
            )
            return grpc.unary_unary_rpc_method_handler(
                refusing(Refused("UNAUTHENTICATED", f"Request {how} {_CREDENTIALS}"))
            )
        CALLER.set(caller)
        return await continuation(details)


class FaultInjection(grpc.aio.ServerInterceptor):
    def __init__(self, faults: Faults, clock: Clock, project_number: str) -> None:
        self._faults = faults
        self._clock = clock
        self._number = project_number

    async def intercept_service(self, continuation: Any, details: grpc.HandlerCallDetails) -> Any:
        handler = await continuation(details)
        call = call_name(details.method)

        async def behave(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
            resource = resource_of(request)
            fault = self._faults.strike(call, resource)
            if fault is None:
                return await handler.unary_unary(request, context)
            await wait_out(fault, self._clock)
            if fault.code != "OK" and fault.when == "before":
                await abort(context, Refused(fault.code, fault.words(call, resource, self._number)))
            answer = await handler.unary_unary(request, context)
            if fault.code != "OK":
                await abort(context, Refused(fault.code, fault.words(call, resource, self._number)))
            return answer

        return grpc.unary_unary_rpc_method_handler(behave, handler.request_deserializer, handler.response_serializer)


class GrpcServer:
    """All gRPC services on one port of 127.0.0.1, without TLS: the proxy before it has that."""

    def __init__(self, services: Sequence[Service], interceptors: Sequence[grpc.aio.ServerInterceptor]) -> None:
        self._services = services
        self._interceptors = interceptors
        self._server: grpc.aio.Server | None = None

    async def start(self, port: int = 0) -> int:
        """Listen; the port. Raises OSError."""
        options = [("grpc.so_reuseport", 0), ("grpc.max_receive_message_length", _LARGEST)]
        server = grpc.aio.server(interceptors=self._interceptors, options=options)
        server.add_generic_rpc_handlers((*self._services, _NotServed()))
        try:
            bound = server.add_insecure_port(f"127.0.0.1:{port}")
        except RuntimeError as error:
            raise OSError(f"port {port} of 127.0.0.1 cannot be had: {error}") from error
        await server.start()
        self._server = server
        return bound

    async def stop(self) -> None:
        server, self._server = self._server, None
        if server is not None:
            await server.stop(grace=0.5)


def served(services: Iterable[Service]) -> set[str]:
    """`/google.cloud.run.v2.Services/GetService` …"""
    return {method for service in services for method in service.methods}


def call_name(method: str) -> str:
    """`/google.cloud.run.v2.Services/GetService` -> `google.cloud.run.v2.Services.GetService`."""
    return method.lstrip("/").replace("/", ".")


def resource_of(request: Any) -> str:
    """What a request is about: the full name of the resource, or of its parent."""
    parent = str(getattr(request, "parent", ""))
    if parent and getattr(request, "service_id", ""):
        return f"{parent}/services/{request.service_id}"
    for holder in (request, getattr(request, "service", None)):
        for field in ("name", "resource"):
            if value := getattr(holder, field, ""):
                return str(value)
    return parent


async def wait_out(fault: Fault, clock: Clock) -> None:
    """The slowness of a fault; for ever, if it says so."""
    if fault.forever:
        await asyncio.get_running_loop().create_future()
    if fault.seconds:
        await clock.sleep(fault.seconds)


async def abort(context: grpc.aio.ServicerContext[Any, Any], refused: Refused) -> None:
    """End the call. https://grpc.io/docs/guides/error/#richer-error-model"""
    status = status_pb2.Status(code=code_pb2.Code.Value(refused.code), message=refused.message)
    for detail in refused.details:
        packed = any_pb2.Any()
        packed.Pack(detail)
        status.details.append(packed)
    trailers = (("grpc-status-details-bin", status.SerializeToString()),) if refused.details else ()
    await context.abort(grpc.StatusCode[refused.code], refused.message, trailers)


def _handler(method: Method) -> grpc.RpcMethodHandler[Any, Any]:
    async def behave(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
        try:
            return await method.call(request)
        except Refused as refused:
            return await abort(context, refused)

    reads = getattr(method.request, "deserialize", None) or method.request.FromString
    writes = getattr(method.response, "serialize", None) or method.response.SerializeToString
    return grpc.unary_unary_rpc_method_handler(behave, reads, writes)


def refusing(refused: Refused) -> Behaviour:
    """A method that always answers so."""

    async def refuse(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
        await abort(context, refused)

    return refuse
